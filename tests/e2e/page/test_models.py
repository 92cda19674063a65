"""The screen of a model: what is missing is told, and nothing else stops working."""

from typing import Any

import pytest

from tests.e2e.conftest import Service
from tests.e2e.page.conftest import Trained

pytestmark = [pytest.mark.page, pytest.mark.timeout(600)]


def test_a_version_without_an_evaluation_can_be_used(
    tab: Any, service: Service, trained: Trained
) -> None:
    nothing = {"object": "evaluation", "splits": {}}
    tab.route("**/versions/2/evaluation", lambda route: route.fulfill(json=nothing))
    tab.goto(f"{service.url}/#/models/{trained.model}@2")
    tab.get_by_text("This version came without an evaluation.").wait_for()
    assert tab.get_by_role("heading", name="Confusion matrix").count() == 0
    for link in ("Try it", "card.json"):
        assert tab.get_by_role("link", name=link).is_visible()
    for button in ("Make this “production”", "Export as PyTorch (torch.export)"):
        assert tab.get_by_role("button", name=button).is_visible()

    tab.get_by_role("link", name="Compare", exact=True).last.click()
    row = tab.get_by_role("region", name="Compare").get_by_role("row", name="Accuracy")
    row.wait_for()
    old, new = row.get_by_role("cell").all_inner_texts()
    assert old.endswith("%")
    assert new == "\N{EN DASH}"


def test_a_split_without_lines_shows_counts_alone(
    tab: Any, service: Service, trained: Trained
) -> None:
    found = service.http.get(f"/models/{trained.model}/versions/2/evaluation").json()
    found["splits"]["folds"] = {**found["splits"]["val"], "out_of_fold": True}
    tab.route("**/versions/2/evaluation", lambda route: route.fulfill(json=found))
    tab.goto(f"{service.url}/#/models/{trained.model}@2?split=val")
    cells = tab.locator("table.matrix td:not(.none)")
    cells.first.wait_for()
    counts = cells.all_inner_texts()
    assert tab.locator("table.matrix button").count() == len(counts)
    tab.get_by_label("Measured").select_option("folds")
    tab.get_by_text("Open a cell").wait_for(state="detached")
    assert tab.locator("table.matrix button").count() == 0
    assert cells.all_inner_texts() == counts


def test_what_a_model_relies_on_is_told(tab: Any, service: Service, trained: Trained) -> None:
    found = service.http.get(f"/models/{trained.model}/versions/2/evaluation").json()
    abstention = found["splits"]["val"]["abstention"]
    tab.goto(f"{service.url}/#/models/{trained.model}@2?split=val")
    tab.get_by_text(abstention["reason"]).wait_for()
    surest = tab.get_by_role("region", name="If only the surest answers counted")
    assert surest.get_by_role("row").count() == 1 + len(abstention["by_confidence"])


def test_an_export_that_was_cancelled_is_ordered_again(
    tab: Any, service: Service, trained: Trained
) -> None:
    def cancelled(route: Any) -> None:
        route.fulfill(json={**route.fetch().json(), "state": "cancelled"})

    tab.route("**/jobs/job_*", cancelled)
    tab.goto(f"{service.url}/#/models/{trained.model}@1")
    order = tab.get_by_role("button", name="Export as ZIP")
    order.click()
    tab.get_by_role("link", name="cancelled").wait_for()
    assert tab.get_by_text("is being written").count() == 0
    tab.unroute("**/jobs/job_*")
    order.click()
    tab.get_by_role("link", name="model.zip").wait_for()
    assert order.count() == 0
