"""A picture from the camera: taken, answered, and what stands there where no camera may be used."""

from typing import Any

import pytest

from tests.e2e.conftest import Service
from tests.e2e.page.conftest import Trained

pytestmark = [pytest.mark.page, pytest.mark.timeout(600)]

COLOURS = """image => {
  const pixels = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
  pixels.drawImage(image, 0, 0);
  const { data } = pixels.getImageData(0, 0, image.naturalWidth, image.naturalHeight);
  return new Set(new Uint32Array(data.buffer)).size;
}"""
# The stream that the page was given, so that a test sees whether it was switched off.
KEEP_STREAM = """
const ask = MediaDevices.prototype.getUserMedia;
MediaDevices.prototype.getUserMedia = async function (wanted) {
  return (window.stream = await ask.call(this, wanted));
};
"""


def test_a_picture_of_the_camera_is_answered(tab: Any, service: Service, trained: Trained) -> None:
    tab.add_init_script(KEEP_STREAM)
    tab.goto(f"{service.url}/#/try/{trained.model}@2")
    tab.reload()
    switch = tab.get_by_role("button", name="Use the camera")
    switch.click()
    tab.get_by_text("This page may not use the camera.").wait_for()
    tab.get_by_role("button", name="Camera off").click()

    tab.context.grant_permissions(["camera"])
    switch.click()
    taking = tab.locator("button:enabled", has_text="Take the picture")
    taking.click()
    tab.locator("ul.bars li").nth(1).wait_for()
    assert tab.get_by_role("img", name="camera.jpg").evaluate(COLOURS) > 1
    assert tab.evaluate("stream.active") is False

    tab.get_by_role("button", name="Another image").click()
    taking.wait_for()
    assert tab.evaluate("stream.active") is True
    tab.get_by_role("button", name="Camera off").click()
    switch.wait_for()
    assert tab.evaluate("stream.active") is False


def test_without_a_camera_an_image_can_still_be_chosen(
    tab: Any, service: Service, trained: Trained
) -> None:
    tab.add_init_script("delete Navigator.prototype.mediaDevices")
    tab.goto(f"{service.url}/#/try/{trained.model}@2")
    tab.reload()
    tab.get_by_text("The camera can be used over https").wait_for()
    assert tab.get_by_role("button", name="Use the camera").count() == 0
    assert tab.get_by_role("button", name="Choose files").is_enabled()
