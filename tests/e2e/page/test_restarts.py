"""The api is killed during an upload and during a training: the page goes on by itself."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Service, running
from tests.e2e.page.browser import tab_on, two_classes
from tests.e2e.test_kills import processes

pytestmark = [pytest.mark.page, pytest.mark.timeout(600)]
TWO_PIECES = 20 * 2**20


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own, because its api is killed."""
    with running(tmp_path / "data") as started:
        yield started


def kill_api(service: Service) -> None:
    victims = processes(service, "api")
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def test_a_killed_api_costs_neither_an_upload_nor_the_sight_of_a_training(
    fragile: Service, tmp_path: Path
) -> None:
    folder = two_classes(tmp_path / "survivor")
    (folder / "notes.bin").write_bytes(os.urandom(TWO_PIECES))
    troubles: list[str] = []
    sent: list[str] = []

    def kill_at_second(route: Any) -> None:
        sent.append(route.request.method)
        if sent == ["PATCH", "PATCH"]:
            kill_api(fragile)
        route.continue_()

    with tab_on(fragile.url, troubles) as tab:
        tab.route("**/uploads/*", kill_at_second)
        tab.set_input_files("[data-pick=folder]", folder)
        tab.get_by_role("button", name="Upload").click()
        tab.get_by_role("heading", name="Report").wait_for()
        assert len(sent) >= 2
        tab.get_by_role("link", name="Train on this").click()
        tab.get_by_label("Network").select_option("lenet")
        tab.get_by_text("More settings").click()
        tab.get_by_label("Epochs").fill("30")
        tab.get_by_role("button", name="Start training").click()
        tab.get_by_text("runs", exact=True).wait_for()
        kill_api(fragile)
        tab.context.set_offline(True)  # The supervisor keeps the port, so no restart is refused.
        tab.get_by_text("This page goes on when it does").wait_for()
        tab.context.set_offline(False)
        tab.get_by_role("link", name="See the model").wait_for()
        tab.reload()
        tab.get_by_role("heading", name="Course of training").wait_for()
        tab.get_by_role("link", name="See the model").click()
        tab.get_by_role("heading", name="Confusion matrix").wait_for()
    assert [said for said in troubles if "net::ERR_" not in said] == []
