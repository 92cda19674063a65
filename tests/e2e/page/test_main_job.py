"""From a folder of images to a model, its report and an answer: by mouse, by keys, and again."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Service
from tests.e2e.page.browser import PATIENCE_MILLISECONDS, train, two_classes, uploaded

pytestmark = [pytest.mark.page, pytest.mark.timeout(900)]


def test_a_folder_becomes_a_model_that_answers(tab: Any, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "blocks", images=24, seed=0)

    tab.set_input_files("[data-pick=folder]", folder)
    tab.get_by_text("48").first.wait_for()
    tab.get_by_role("button", name="Upload").click()
    tab.get_by_role("heading", name="Report").wait_for()
    train(tab)
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


def test_the_plan_that_opens_first_can_be_carried_out(
    tab: Any, troubles: list[str], tmp_path: Path
) -> None:
    """The service may download no weights, and has none."""
    uploaded(tab, tmp_path / "offline")
    tab.get_by_role("link", name="Train on this").click()
    tab.locator("button:enabled", has_text="Start training").wait_for()
    assert tab.get_by_role("alert").count() == 0
    tab.get_by_label("Network").select_option("mobilenet_v2")
    tab.get_by_role("alert").filter(has_text="not on this machine").wait_for()
    assert tab.get_by_role("button", name="Start training").is_disabled()
    assert len(troubles) == 1
    assert "422" in troubles.pop()


def test_the_keyboard_does_all_of_it(tab: Any, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "keys", seed=1500)

    def reach(found: str) -> None:
        """Press Tab until a condition on the element in focus, `here`, is true."""
        for _ in range(200):
            tab.keyboard.press("Tab")
            if tab.evaluate(f"(() => {{ const here = document.activeElement; return {found} }})()"):
                return
        pytest.fail(f"no Tab leads to {found}")

    def named(text: str) -> str:
        return f"(here.closest('label') ?? here).innerText.startsWith({json.dumps(text)})"

    def choose(text: str, pick: str, files: Path) -> None:
        """Press a button; the browser's own window, which it opens, is no part of the page."""
        reach(named(text))
        tab.evaluate(
            "pick => document.querySelector(`[data-pick=${pick}]`).onclick = (event) => {"
            " event.preventDefault(); window.opened = pick }",
            pick,
        )
        tab.keyboard.press("Enter")
        assert tab.evaluate("window.opened") == pick
        tab.set_input_files(f"[data-pick={pick}]", files)

    def press(text: str) -> None:
        reach(named(text))
        tab.keyboard.press("Enter")

    choose("Choose a folder", "folder", folder)
    tab.get_by_role("heading", name="Before anything is sent").wait_for()
    press("Upload")
    tab.get_by_role("heading", name="Report").wait_for()
    press("Train on this")
    tab.get_by_role("heading", name="The plan").wait_for()
    reach(named("Network"))
    tab.keyboard.type("lenet")
    press("More settings")
    reach(named("Epochs"))
    tab.keyboard.type("2")
    tab.locator("button:enabled", has_text="Start training").wait_for()
    press("Start training")
    tab.get_by_role("link", name="See the model").wait_for()
    press("See the model")
    tab.get_by_role("heading", name="Confusion matrix").wait_for()
    reach("here.closest('table.matrix') !== null && here.tagName === 'BUTTON'")
    tab.keyboard.press("Enter")
    tab.get_by_role("dialog").get_by_role("img").first.wait_for()
    tab.keyboard.press("Escape")
    tab.get_by_role("dialog").wait_for(state="detached")
    assert tab.evaluate("document.activeElement.closest('table.matrix') !== null")
    press("Make this “production”")
    tab.get_by_text("production →").or_(tab.get_by_text("production", exact=True)).first.wait_for()
    press("Try it")
    tab.get_by_role("heading", level=1, name="Try").wait_for()
    choose("Choose files", "image", folder / "left" / "3.png")
    tab.locator("ul.bars li").nth(1).wait_for()


def test_a_corrected_image_makes_a_version_that_is_compared_and_leaves(
    tab: Any, service: Service, tmp_path: Path
) -> None:
    dataset = uploaded(tab, tmp_path / "corrected")
    train(tab, epochs=2)
    tab.get_by_role("link", name="See the model").click()
    tab.locator("table.matrix button").first.click()
    tab.get_by_role("link", name="Correct images of this class").click()
    tab.locator(".tile").first.click()
    shown = tab.locator(".tile span").first.inner_text()
    tab.keyboard.press({"left": "2", "right": "1"}[shown])
    tab.get_by_text("1 change", exact=True).wait_for()
    tab.get_by_role("button", name="Save as version").click()
    tab.wait_for_url(f"**/#/datasets/{dataset}@2")
    train(tab, epochs=2)
    tab.get_by_role("link", name="See the model").click()
    tab.get_by_role("heading", level=1, name="corrected @2").wait_for()
    tab.get_by_role("link", name="Compare").click()
    tab.get_by_role("heading", name="On the same ").wait_for()
    assert tab.get_by_label("Version").nth(0).input_value() == "1"

    tab.go_back()
    tab.get_by_role("button", name="Export as PyTorch").click()
    with tab.expect_download(timeout=3 * PATIENCE_MILLISECONDS) as download:
        link = tab.get_by_role("link", name="model.pt2")
        link.click(timeout=3 * PATIENCE_MILLISECONDS)
    export = service.http.get("/models/corrected/versions/2/exports/torch").json()
    assert Path(download.value.path()).stat().st_size == export["files"]["model.pt2"]["size"]
    tab.get_by_text("The same label for").wait_for()
    assert tab.get_by_role("button", name="Export as PyTorch").count() == 0
