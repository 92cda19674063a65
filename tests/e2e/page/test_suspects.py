"""From a model to the image whose label it doubts, and to a version in which that is corrected."""

from typing import Any

import pytest

from tests.e2e.conftest import Service, png, zip_of

pytestmark = [pytest.mark.page, pytest.mark.timeout(600)]

SIDES = ("left", "right")


def with_a_wrong_label() -> bytes:
    """Two easy classes; one picture of the right ones is held out as a left one."""
    files = {
        f"{split}/{name}/{number:02}.png": png(value, 4000 * value + first + number)
        for value, name in enumerate(SIDES)
        for split, first, images in (("train", 0, 24), ("val", 100, 8))
        for number in range(images)
    }
    return zip_of({**files, "val/left/wrong.png": png(1, 4900)})


def test_a_label_that_a_model_doubts_is_corrected(tab: Any, service: Service) -> None:
    config = {"architecture": "lenet", "name": "doubts", "hyperparameters": {"epochs": 8}}
    job = service.ended(service.finetune(with_a_wrong_label(), **config))
    assert job["state"] == "succeeded"
    dataset = job["dataset"].partition("@")[0]

    tab.goto(f"{service.url}/#/models/doubts@1")
    tab.get_by_role("link", name="1 label may be wrong").click()
    tab.get_by_text("As doubts@1 judges, the worst first").wait_for()
    tile = tab.get_by_role("group", name="Images").get_by_role("button")
    assert tile.count() == 1
    assert tile.inner_text().startswith("left → right? ")
    assert tab.get_by_role("button", name="It is right").is_visible()
    tile.press("k")
    assert tile.inner_text() == "✓ left"
    tile.press("y")
    assert tile.inner_text() == "right"
    tab.get_by_role("button", name="Save as version").click()
    tab.get_by_role("heading", name="@2").wait_for()
    tab.get_by_label("Finding").select_option("likely wrong label")
    tab.get_by_text("The model suspects no image.").wait_for()
    assert tab.get_by_role("link", name="Train on this").is_visible()
    images = service.http.get(f"/datasets/{dataset}/versions/2/images?class=right&limit=100")
    assert "val/left/wrong.png" in [image["path"] for image in images.json()["data"]]


def test_where_no_model_has_judged_the_page_says_what_to_do(
    tab: Any, service: Service, troubles: list[str]
) -> None:
    sent = service.http.post("/datasets", files={"file": ("new.zip", with_a_wrong_label())}).json()
    service.ended(sent["id"])
    tab.goto(f"{service.url}/#/datasets/{sent['dataset']}@1?finding=label_suspect")
    tab.get_by_text("No model has judged these images yet.").wait_for()
    assert all("409" in trouble for trouble in troubles)  # The browser notes each such answer.
    troubles.clear()
