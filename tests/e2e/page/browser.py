"""A real Chromium, and what a person does with the page in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.e2e.conftest import png

BUILT = ROOT / "app" / "static" / "index.html"
PATIENCE_MILLISECONDS = 120_000
SWITCHES = ("--no-sandbox", "--use-fake-device-for-media-stream")  # Its camera needs a permission.


@contextmanager
def tab_on(url: str, troubles: list[str], **options: Any) -> Iterator[Any]:
    """Open the page; `troubles` takes what goes wrong in it, and every request to somebody else."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only these tests need it.

    assert BUILT.is_file(), "make setup has not built it"

    def said(message: Any) -> None:
        if message.type == "error":
            troubles.append(f"{message.text} {message.location['url']}")

    def asked(request: Any) -> None:
        if not request.url.startswith((url, "blob:", "data:")):
            troubles.append(f"a request to {request.url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=SWITCHES
        )
        page = browser.new_page(locale="en", viewport={"width": 1280, "height": 900}, **options)
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", said)
        page.on("request", asked)
        page.goto(f"{url}/")
        yield page
        browser.close()


def two_classes(folder: Path, images: int = 12, seed: int = 500) -> Path:
    """Write a folder of two easy classes; return it."""
    for value, name in enumerate(("left", "right")):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            file = folder / name / f"{number}.png"
            file.write_bytes(png(value, seed + 100 * value + number))
    return folder


def uploaded(tab: Any, folder: Path) -> str:
    """Upload two classes of twelve images each; return the id of the data set."""
    tab.set_input_files("[data-pick=folder]", two_classes(folder))
    tab.get_by_role("button", name="Upload").click()
    tab.get_by_role("heading", name="Report").wait_for()
    return str(tab.url.rsplit("/", 1)[1])


def train(tab: Any, epochs: int = 6) -> None:
    """Train LeNet on the data set that is shown, until its model can be seen."""
    tab.get_by_role("link", name="Train on this").click()
    tab.get_by_label("Network").select_option("lenet")
    tab.get_by_text("More settings").click()
    tab.get_by_label("Epochs").fill(str(epochs))
    tab.get_by_role("button", name="Start training").click()
    tab.get_by_role("link", name="See the model").wait_for()
