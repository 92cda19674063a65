"""Heat maps lie over tried images, and leave no trace where there are none."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from tests.e2e.conftest import Service, png
from tests.e2e.page.conftest import Trained

pytestmark = [pytest.mark.page, pytest.mark.timeout(600)]

SWITCH = "Show what spoke for it"
PLACE = """map => {
  const [inner, outer] = [map, map.previousElementSibling].map(one => one.getBoundingClientRect());
  const { left, top, width, height } = outer;
  return [(inner.left - left) / width, (inner.top - top) / height,
          (inner.right - left) / width, (inner.bottom - top) / height, map.naturalWidth];
}"""


def heat(label: str) -> dict[str, Any]:
    """Return a heat map of the right half of an image, as the service has it."""
    file = io.BytesIO()
    Image.new("RGBA", (16, 16), (214, 40, 40, 191)).save(file, "PNG")
    return {
        "label": label, "index": 0, "method": "cam", "cells": [[1.0]], "bias": 0.0, "margin": 1.0,
        "box": {"left": 0.5, "top": 0.0, "right": 1.0, "bottom": 1.0}, "width": 96, "height": 96,
        "png": base64.b64encode(file.getvalue()).decode(), "overlay": None,
    }  # fmt: skip


def lies_right(tab: Any) -> None:
    """Wait for a map, and see that it lies over the half that it is of."""
    shown = tab.locator("img[data-heat]").first
    shown.wait_for()
    *place, width = shown.evaluate(PLACE)
    assert place == pytest.approx([0.5, 0.0, 1.0, 1.0], abs=0.02)
    assert width == 16


def test_a_map_lies_over_the_image_that_is_tried(
    tab: Any, service: Service, trained: Trained
) -> None:
    def explained(route: Any) -> None:
        if not kept:  # What a network without heat maps would refuse is never sent.
            kept.append(route.fetch().json())
        said = kept[0]
        said["model"]["heatmap"] = True
        sent = route.request.post_data_buffer
        named = next((one for one in ("nw", "ne") if f"\r\n{one}\r\n".encode() in sent), "sw")
        said["results"][0]["heatmap"] = heat(named)
        route.fulfill(json=said)

    kept: list[Any] = []
    tab.goto(f"{service.url}/#/try/{trained.model}@2")
    image = {"name": "x.png", "mimeType": "image/png", "buffer": png(1, 5, 96)}
    tab.locator("input[data-pick=image]").set_input_files(image)
    tab.locator("ul.bars li").first.wait_for()
    assert tab.get_by_label(SWITCH).count() == 0
    tab.route("**/predict", explained)
    tab.get_by_role("button", name="Another image").click()
    tab.locator("input[data-pick=image]").set_input_files(image)
    tab.get_by_label(SWITCH).check()
    lies_right(tab)
    tab.get_by_label("Class", exact=True).select_option("nw")
    tab.locator("img[data-heat=nw]").wait_for()
    tab.get_by_label(SWITCH).uncheck()
    tab.locator("img[data-heat]").wait_for(state="detached")


def test_an_evaluated_image_shows_what_spoke_for_its_answer(
    tab: Any, service: Service, trained: Trained, troubles: list[str]
) -> None:
    def with_maps(route: Any) -> None:
        route.fulfill(json={**route.fetch().json(), "heatmap": True})

    def explained(route: Any) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=503, json={"code": "predictor_unavailable", "title": "Away"})
        else:
            route.fulfill(json={**(told := heat("nw")), "overlay": told["png"]})

    asked: list[str] = []
    tab.goto(f"{service.url}/#/models/{trained.model}@2")
    tab.locator("table.matrix button").first.click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_role("img").first.wait_for()
    assert dialog.locator(".picture").count() == 0
    tab.route(f"**/models/{trained.model}/versions/2", with_maps)
    tab.route("**/heatmap?*", explained)
    tab.reload()
    tab.locator("table.matrix button").first.click()
    picture = dialog.locator(".picture").first
    picture.click()
    dialog.get_by_role("alert").wait_for()
    troubles.clear()  # The 503 that this test has caused.
    picture.click()
    dialog.locator(".picture[aria-pressed=true] img[src^='data:image/png']").wait_for()
    picture.click()
    dialog.locator(".picture[aria-pressed=false] img[src*=thumbnail]").first.wait_for()
    picture.click()
    dialog.locator(".picture[aria-pressed=true] img[src^='data:image/png']").wait_for()
    assert len(asked) == 2
    assert all("explain_overlay=true" in url for url in asked)
