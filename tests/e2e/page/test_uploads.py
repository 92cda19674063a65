"""Uploads: picked or dropped, sent once, cancelled, and gone on with whatever happens meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Service, png
from tests.e2e.page.browser import two_classes, uploaded
from tests.waiting import wait_for

pytestmark = [pytest.mark.page, pytest.mark.timeout(600)]


def named(service: Service, name: str) -> int:
    """Return how many data sets have a name."""
    found = service.http.get("/datasets", params={"limit": 1000}).json()["data"]
    return sum(one["name"] == name for one in found)


def first_piece_held(tab: Any) -> list[Any]:
    """Hold back the next piece of an upload; return the list into which it comes."""
    held: list[Any] = []

    def hold(route: Any) -> None:
        if route.request.method == "PATCH" and not held:
            held.append(route)
        else:
            route.fallback()

    tab.route("**/uploads/*", hold)
    return held


def test_a_dropped_folder_is_read_as_it_is(tab: Any, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "dropped" / "inner")
    (folder.parent / ".hidden").write_text("")
    devtools = tab.context.new_cdp_session(tab)
    data = {"items": [], "files": [str(folder.parent)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 300, "y": 300, "data": data}
        devtools.send("Input.dispatchDragEvent", event)
    tab.get_by_role("heading", name="Before anything is sent").wait_for()
    assert tab.get_by_label("Name").input_value() == "dropped"
    assert tab.locator("dl.facts dd").first.inner_text() == "24"
    tab.get_by_role("button", name="Upload").click()
    tab.get_by_role("heading", name="Report").wait_for()
    tab.get_by_title("left", exact=True).wait_for()


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
    tab.get_by_text("All of it has arrived.").wait_for()
    assert tab.get_by_role("heading", level=1, name="Jobs", exact=True).is_visible()
    tab.get_by_role("link", name="tabled").click()
    tab.get_by_role("heading", name="Report").wait_for()
    for name in ("left", "right"):
        tab.get_by_title(name, exact=True).wait_for()
    assert sent == ["PATCH", "HEAD", "PATCH"]
    assert len(troubles) == 1
    assert "401" in troubles.pop()


def test_a_creation_whose_answer_is_lost_is_repeated_as_the_same(
    tab: Any, service: Service, troubles: list[str], tmp_path: Path
) -> None:
    keys: list[str] = []

    def lose_first(route: Any) -> None:
        if route.request.method == "POST":
            keys.append(route.request.headers["idempotency-key"])
            if len(keys) == 1:
                assert route.fetch().status == 202
                route.abort()
                return
        route.fallback()

    tab.route("**/datasets", lose_first)
    uploaded(tab, tmp_path / "lost-answer")
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert named(service, "lost-answer") == 1
    assert len(troubles) == 1
    assert "ERR_FAILED" in troubles.pop()


def test_a_cancelled_upload_leaves_nothing(tab: Any, service: Service, tmp_path: Path) -> None:
    before = service.http.get("/uploads").json()["data"]
    held = first_piece_held(tab)
    tab.set_input_files("[data-pick=folder]", two_classes(tmp_path / "cancelled"))
    tab.get_by_role("button", name="Upload").click()
    tab.get_by_role("button", name="Cancel").wait_for()
    wait_for(lambda: tab.evaluate("1") and held)
    with tab.expect_response(lambda got: got.request.method == "DELETE") as answer:
        tab.get_by_role("button", name="Cancel").click()
    assert answer.value.status == 204
    tab.get_by_role("heading", name="Drop a folder").wait_for()
    assert service.http.get("/uploads").json()["data"] == before
    assert named(service, "cancelled") == 0


def test_a_second_choice_waits_for_the_first(tab: Any, service: Service, tmp_path: Path) -> None:
    held = first_piece_held(tab)
    tab.set_input_files("[data-pick=folder]", two_classes(tmp_path / "first-choice"))
    tab.get_by_role("button", name="Upload").click()
    wait_for(lambda: tab.evaluate("1") and held)
    tab.get_by_role("link", name="Topwork", exact=True).click()
    second = two_classes(tmp_path / "second-choice", seed=2500)
    tab.set_input_files("[data-pick=folder]", second)
    tab.get_by_text("Another upload is under way").wait_for()
    upload = tab.get_by_role("button", name="Upload", exact=True)
    assert upload.is_disabled()
    held[0].continue_()
    tab.get_by_text("All of it has arrived.").wait_for()
    assert tab.get_by_label("Name").input_value() == "second-choice"
    upload.click()
    tab.get_by_role("heading", name="Report").wait_for()
    assert [named(service, name) for name in ("first-choice", "second-choice")] == [1, 1]


def test_a_double_click_sends_once(tab: Any, service: Service, tmp_path: Path) -> None:
    tab.set_input_files("[data-pick=folder]", two_classes(tmp_path / "twice", seed=3500))
    tab.get_by_role("button", name="Upload").dblclick()
    tab.get_by_role("heading", name="Report").wait_for()
    assert named(service, "twice") == 1
    tab.get_by_role("link", name="Train on this").click()
    tab.get_by_label("Network").select_option("lenet")
    tab.get_by_text("More settings").click()
    tab.get_by_label("Epochs").fill("1")
    tab.locator("button:enabled", has_text="Start training").dblclick()
    tab.get_by_role("link", name="See the model").wait_for()
    assert len(service.http.get("/models/twice/versions").json()["data"]) == 1
