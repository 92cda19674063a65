"""The page in a real Chromium: from a folder of images to a model, its report and an answer.

`make test-page` builds the page first. Debian: `apt-get install chromium`.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import Service, png

pytestmark = [pytest.mark.page, pytest.mark.timeout(300)]
PAGE = ROOT / "app" / "static" / "index.html"
TRAINING_MILLISECONDS = 120_000


@pytest.fixture
def troubles() -> list[str]:
    """What goes wrong in the tab; a test takes out what it has caused itself."""
    return []


@pytest.fixture
def tab(service: Service, troubles: list[str]) -> Iterator[Any]:
    """A tab that notes whatever goes wrong in it, and every request to somebody else."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only these tests need it.

    assert PAGE.is_file(), "make setup has not built it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(locale="en", viewport={"width": 1280, "height": 900})
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "console",
            lambda said: (
                troubles.append(f"{said.text} {said.location['url']}")
                if said.type == "error"
                else None
            ),
        )
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith((service.url, "blob:", "data:"))
                else troubles.append(f"a request to {asked.url}")
            ),
        )
        page.goto(f"{service.url}/")
        yield page
        browser.close()
    assert troubles == []


def test_a_folder_becomes_a_model_that_answers(
    tab: Any, troubles: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "blocks"
    for value, name in enumerate(("left", "right")):
        (folder / name).mkdir(parents=True)
        for seed in range(24):
            (folder / name / f"{seed}.png").write_bytes(png(value, 100 * value + seed))

    tab.set_input_files("[data-pick=folder]", folder)
    tab.get_by_text("48").first.wait_for()
    tab.get_by_role("button", name="Upload").click()
    tab.get_by_role("heading", name="Report").wait_for(timeout=60_000)
    tab.get_by_role("link", name="Train on this").click()
    tab.get_by_label("Network").select_option("lenet")
    tab.get_by_text("More settings").click()
    tab.get_by_label("Epochs").fill("6")
    tab.get_by_role("button", name="Start training").click()
    tab.get_by_role("link", name="See the model").wait_for(timeout=TRAINING_MILLISECONDS)
    tab.get_by_role("link", name="See the model").click()

    tab.get_by_role("heading", name="Confusion matrix").wait_for()
    tab.locator("table.matrix button").first.click()
    tab.get_by_role("dialog").get_by_role("img").first.wait_for()
    tab.get_by_role("button", name="Close").click()
    tab.get_by_role("button", name="Make this “production”").click()
    tab.get_by_text("production →").or_(tab.get_by_text("production", exact=True)).first.wait_for()
    tab.reload()
    tab.get_by_role("heading", name="Confusion matrix").wait_for()

    tab.get_by_role("link", name="Try it").click()
    tab.set_input_files("[data-pick=image]", folder / "left" / "3.png")
    tab.locator("ul.bars li").nth(1).wait_for()
    assert tab.locator("section[aria-live] h2").inner_text() in {"left", "right"}
    # The network that is proposed first has no plan where nobody has fetched its weights.
    troubles[:] = [said for said in troubles if "422" not in said or "dry_run" not in said]


def test_every_screen_opens_and_goes_back(tab: Any) -> None:
    for room in ("Data", "Train", "Jobs", "Models", "Try", "Service"):
        tab.get_by_role("link", name=room, exact=True).first.click()
        tab.get_by_role("heading", level=1, name=room, exact=True).wait_for()
    tab.go_back()
    tab.get_by_role("heading", level=1, name="Try").wait_for()
    tab.get_by_role("button", name="Deutsch").click()
    tab.get_by_role("link", name="Modelle", exact=True).wait_for()


def test_an_upload_outlives_its_screen_and_its_key(
    tab: Any, troubles: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "tabled"
    (folder / "images").mkdir(parents=True)
    rows = ["file,label"]
    for seed in range(12):
        (folder / "images" / f"{seed}.png").write_bytes(png(seed % 2, seed))
        rows.append(f"images/{seed}.png,{('left', 'right')[seed % 2]}")
    (folder / "labels.csv").write_text("\n".join(rows))
    sent: list[str] = []

    def refuse_first(route: Any) -> None:
        sent.append(route.request.method)
        if len(sent) == 1:
            route.fulfill(status=401, body="")
        else:
            route.fallback()

    tab.route("**/uploads/*", refuse_first)
    tab.route("**/session", lambda route: route.fulfill(status=204))
    tab.set_input_files("[data-pick=folder]", folder)
    tab.get_by_text("1 table or list found").wait_for()
    assert tab.get_by_text("All images lie in one folder").count() == 0
    tab.get_by_role("button", name="Upload").click()
    tab.get_by_role("heading", name="Sign in").wait_for()
    tab.get_by_role("link", name="Jobs", exact=True).click()
    tab.get_by_label("Key", exact=True).fill("tw_again")
    tab.get_by_role("button", name="Sign in").click()
    tab.get_by_text("All of it has arrived.").wait_for(timeout=60_000)
    assert tab.get_by_role("heading", level=1, name="Jobs", exact=True).is_visible()
    tab.get_by_role("link", name="tabled").click()
    tab.get_by_role("heading", name="Report").wait_for(timeout=60_000)
    for name in ("left", "right"):
        tab.get_by_title(name, exact=True).wait_for()
    assert sent == ["PATCH", "HEAD", "PATCH"]
    assert len(troubles) == 1
    assert "401" in troubles.pop()


def uploaded(tab: Any, folder: Path) -> str:
    """Upload two classes of twelve images each; return the address of the data set."""
    for value, name in enumerate(("left", "right")):
        (folder / name).mkdir(parents=True)
        for seed in range(12):
            (folder / name / f"{seed}.png").write_bytes(png(value, 500 + 100 * value + seed))
    tab.set_input_files("[data-pick=folder]", folder)
    tab.get_by_role("button", name="Upload").click()
    tab.get_by_role("heading", name="Report").wait_for(timeout=60_000)
    return str(tab.url)


def test_a_late_page_of_images_is_none_of_another_filter(
    tab: Any, troubles: list[str], tmp_path: Path
) -> None:
    uploaded(tab, tmp_path / "late")
    held: list[Any] = []
    seen: list[dict[str, Any]] = []

    def listing(route: Any) -> None:
        if "after=" in route.request.url:
            held.append(route)
            return
        answer = route.fetch()
        page = answer.json()
        seen.extend(page["data"])
        route.fulfill(response=answer, json={**page, "has_more": True})

    def late(**answer: Any) -> None:
        with tab.expect_response(lambda got: "after=" in got.url):
            held.pop(0).fulfill(**answer)
        tab.evaluate("new Promise(requestAnimationFrame)")

    tab.route(re.compile(r"/images\?"), listing)
    with tab.expect_request(lambda asked: "after=" in asked.url):
        tab.reload()
    with tab.expect_request(lambda asked: "after=" in asked.url and "class=left" in asked.url):
        tab.locator("label", has_text="Class").first.locator("select").select_option("left")
    wrong = next(image for image in seen if image["class"] == "right")
    late(json={"object": "list", "data": [wrong], "has_more": False})
    captions = tab.locator(".tile span").all_inner_texts()
    assert captions
    assert set(captions) == {"left"}

    late(status=429, json={"code": "rate_limited", "detail": "Too many requests."})
    tab.get_by_text("Too many requests.").wait_for()
    with tab.expect_request(lambda asked: "after=" in asked.url):
        tab.get_by_role("button", name="Try again").click()
    tab.get_by_role("button", name="Leave out").click()
    tab.get_by_text("1 change", exact=True).wait_for()
    assert len(troubles) == 1
    assert "429" in troubles.pop()


def test_two_versions_are_compared_by_the_service(
    tab: Any, service: Service, tmp_path: Path
) -> None:
    dataset = f"{uploaded(tab, tmp_path / 'pair').rsplit('/', 1)[1]}@1"
    for seed in (1, 2):
        body = {
            "dataset": dataset, "architecture": "lenet", "name": "pair", "seed": seed,
            "hyperparameters": {"epochs": 1},
        }  # fmt: skip
        job = service.http.post("/finetune", json=body).json()["id"]
        assert service.ended(job)["state"] == "succeeded"
    tab.goto(f"{service.url}/#/compare")
    for place, version in enumerate(("1", "2")):
        tab.get_by_label("Model").nth(place).select_option("pair")
        tab.get_by_label("Version").nth(place).select_option(version)
    found = service.http.get("/models/pair/compare", params={"old": 1, "new": 2}).json()
    tab.get_by_role("heading", name=f"On the same {found['accuracy']['images']} ").wait_for()
    assert tab.get_by_role("row", name="left").count() == 1
    assert tab.get_by_text("no difference is claimed").count() == 0
