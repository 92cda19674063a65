"""What a browser has to load: little for the first screen, and what a later one lacks is told."""

import gzip
from typing import Any

import pytest

from tests.e2e.conftest import Service
from tests.e2e.page.conftest import Trained

pytestmark = [pytest.mark.page, pytest.mark.timeout(600)]
MOST_SCRIPT_BYTES = 80_000  # Of all scripts together, in gzip.
MOST_MILLISECONDS = 1000
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def test_the_first_screen_is_light_and_soon_there(tab: Any) -> None:
    scripts: dict[str, bytes] = {}
    tab.on(
        "response", lambda got: got.url.endswith(".js") and scripts.update({got.url: got.body()})
    )
    waited = []
    for _ in range(3):  # The machine may be busy with something else for one of them.
        tab.reload()
        tab.get_by_role("heading", name="Drop a folder").wait_for()
        tab.wait_for_function(f"{PAINTED.removesuffix('.startTime')} !== undefined")
        waited.append(tab.evaluate(PAINTED))
    assert scripts
    assert sum(len(gzip.compress(script)) for script in scripts.values()) <= MOST_SCRIPT_BYTES
    assert min(waited) <= MOST_MILLISECONDS


def test_curves_that_cannot_be_loaded_leave_their_numbers(
    tab: Any, troubles: list[str], service: Service, trained: Trained
) -> None:
    tab.route("**/assets/plot-*.js", lambda route: route.abort())
    tab.goto(f"{service.url}/#/jobs/{trained.job}")
    tab.get_by_text("The curves cannot be drawn now").first.wait_for()
    tab.get_by_text("As a table").click()
    assert tab.get_by_role("region", name="Course of training").get_by_role("row").count() == 3
    assert troubles
    assert all("ERR_FAILED" in said for said in troubles)
    troubles.clear()

    tab.unroute("**/assets/plot-*.js")
    tab.reload()
    tab.locator("canvas").nth(1).wait_for()
    assert tab.get_by_text("The curves cannot be drawn now").count() == 0
