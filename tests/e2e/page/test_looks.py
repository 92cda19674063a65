"""How every screen looks: nothing that axe finds, no sideways scrolling at 320 px, pictures of it.

`SCREENSHOTS=folder make test-page` keeps the pictures.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import Service, png
from tests.e2e.page.browser import tab_on, two_classes
from tests.e2e.page.conftest import Trained

pytestmark = [pytest.mark.page, pytest.mark.timeout(900)]
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
# Name, colour scheme, width in pixels; 320 is what WCAG 2.2 asks for (1.4.10, Reflow).
LOOKS = (("light", "light", 1280), ("dark", "dark", 1280), ("narrow", "light", 320))
FAULTS = """async () => (await axe.run(document)).violations.flatMap(({ id, nodes }) =>
  nodes.map(({ target, failureSummary }) => `${id} at ${target}: ${failureSummary}`))"""


def faults_of(tab: Any, screen: str, folder: Path) -> list[str]:
    """Return what is wrong with the screen that is shown, in every look; keep a picture of each."""
    found = []
    for look, scheme, width in LOOKS:
        tab.emulate_media(color_scheme=scheme)
        tab.set_viewport_size({"width": width, "height": 900})
        tab.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        tab.screenshot(path=folder / f"{screen}-{look}.png", full_page=True)
        found += [f"{screen}, {look}: {fault}" for fault in tab.evaluate(FAULTS)]
        wide = tab.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{screen}, {look}: {wide} px wide")
    return found


def test_every_screen_is_in_order_in_light_dark_and_narrow(
    service: Service, trained: Trained, tmp_path: Path
) -> None:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    image = tmp_path / "one.png"
    image.write_bytes(png(0, 7))
    version = f"{trained.model}@2"

    with tab_on(service.url, [], bypass_csp=True, reduced_motion="reduce") as tab:
        tab.add_init_script(path=AXE)

        def see(address: str, *texts: str) -> None:
            tab.goto(f"{service.url}/{address}")
            tab.reload()
            for text in texts:
                tab.get_by_text(text).first.wait_for()

        def choose() -> None:
            see("#/")
            tab.set_input_files("[data-pick=folder]", two_classes(tmp_path / "chosen"))
            tab.get_by_role("heading", name="Before anything is sent").wait_for()

        def open_cell() -> None:
            see(f"#/models/{version}", "Confusion matrix")
            tab.locator("table.matrix button").first.click()
            tab.get_by_role("dialog").get_by_role("img").first.wait_for()

        def ask() -> None:
            see(f"#/try/{version}", "Drop, paste or choose an image.")
            tab.set_input_files("[data-pick=image]", image)
            tab.locator("ul.bars li").first.wait_for()

        def film() -> None:
            tab.reload()  # Which puts the image away that was asked about.
            tab.context.grant_permissions(["camera"])
            tab.get_by_role("button", name="Use the camera").click()
            tab.locator("button:enabled", has_text="Take the picture").wait_for()

        def sign_out() -> None:
            tab.route("**/jobs?*", lambda route: route.fulfill(status=401, json={}))
            see("#/jobs", "This service asks for a key.")
            tab.unroute("**/jobs?*")

        screens: dict[str, Callable[[], None]] = {
            "start": lambda: see("#/", "Recent jobs", "Database"),
            "datasets": lambda: see("#/datasets", "Created"),
            "new-dataset": choose,
            "dataset": lambda: see(f"#/datasets/{trained.dataset}", "Report", "Arrows move"),
            "train": lambda: see(
                f"#/train?dataset={trained.dataset}&architecture=lenet", "Takes about"
            ),
            "jobs": lambda: see("#/jobs", "Created"),
            "job": lambda: see(f"#/jobs/{trained.job}", "Highest validation accuracy"),
            "models": lambda: see("#/models", "looks"),
            "model": lambda: see(f"#/models/{version}", "Confusion matrix", "Export as ONNX"),
            "cell": open_cell,
            "compare": lambda: see(f"#/compare?m={trained.model}@1,{version}", "On the same"),
            "try-empty": lambda: see("#/try", "Drop, paste or choose an image."),
            "try": ask,
            "camera": film,
            "service": lambda: see("#/service", "Workers", "Usage"),
            "sign-in": sign_out,
            "nothing": lambda: see("#/nowhere", "There is nothing at this address"),
        }
        found = []
        for screen, show in screens.items():
            show()
            found += faults_of(tab, screen, folder)
    assert found == []
