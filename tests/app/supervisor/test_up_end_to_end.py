"""`topwork up` itself with every real process: stop, go on, die."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.app.apiclient import png
from tests.app.processes import alive, descendants
from tests.app.running import Up
from tests.waiting import wait_for
from topwork import Topwork

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
START_SECONDS = 180.0
CHILDREN = ("valkey-server", "app.api.main", "worker", "app.predictor")


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Up]]:
    """Run `topwork up` on the test's data folder, again and again."""
    monkeypatch.setenv("TOPWORK_OFFLINE", "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started: list[Up] = []

    def run() -> Up:
        log = tmp_path / f"log{len(started)}"
        words = ("app.cli", "up", "--port", "0", "--data-dir", str(tmp_path / "data"))
        started.append(Up(log, *words))
        return started[-1]

    yield run
    for up in started:
        up.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, shade in (("bright", 230), ("dark", 20)):
        for number in range(10):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png((shade, shade - number, shade), side=32))
    return tmp_path / "images"


def ready(up: Up) -> str:
    """Return the address once the api answers."""
    return up.wait_said(r"ready at (http://\S+)")


def test_ctrl_c_in_mid_job_stops_all_in_ten_seconds_and_the_next_start_goes_on(
    start: Callable[[], Up], folder: Path
) -> None:
    up = start()
    with Topwork(ready(up)) as topwork:
        job = topwork.finetune(
            folder, architecture="lenet", hyperparameters={"epochs": 400}, early_stopping=None
        )
        stream = job.stream()  # Stays open, as in a browser's tab.
        next(event for event in stream if event.kind == "epoch")
        pids = descendants(up.popen.pid)
        assert len(pids) >= len(CHILDREN) + 1  # With the trainer.

        code, seconds = up.interrupt()

        assert code == 0, up.log.read_text()
        assert seconds <= 10
        wait_for(lambda: not alive(pids))
        assert "SecurityWarning" not in up.log.read_text()

    again = start()
    with Topwork(ready(again)) as topwork:
        done = topwork.jobs.get(job.id).wait()
        told = [e.data["epoch"] for e in topwork.jobs.events(job.id) if e.kind == "epoch"]
        assert told == sorted(set(told))
        assert (
            len([e for e in topwork.jobs.events(job.id) if e.data.get("state") == "succeeded"]) == 1
        )
        assert topwork.predict(folder / "dark" / "0.png", model=str(done.model))[0].label == "dark"

    pids = descendants(again.popen.pid)
    again.popen.kill()
    again.popen.wait()
    wait_for(lambda: not alive(pids))
