"""The folder of a run: exit codes, error.json, a result that is whole or absent."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.system import faults
from core.system.run_dir import (
    CRASHED,
    DONE,
    FAILED,
    NO_ROOM,
    STOPPED,
    ChildLost,
    RunDir,
    supervise,
)
from tests.waiting import wait_for
from topwork.errors import TooFewClasses


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "request.json").write_text('{"a": 1}')
    return tmp_path


@pytest.fixture(autouse=True)
def _keep_handler() -> object:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_complete_result_appears_at_once(folder: Path) -> None:
    (folder / "result").mkdir()
    (folder / "result" / "old").touch()
    (folder / "result.tmp").mkdir()
    (folder / "result.tmp" / "torn").touch()
    (folder / "error.json").touch()

    def work(run: RunDir) -> None:
        assert run.request() == b'{"a": 1}'
        draft = run.begin_result()
        assert not (folder / "error.json").exists()
        (draft / "new").write_text("x")
        run.publish_result(draft)

    assert supervise(work, [str(folder)]) == DONE
    assert [path.name for path in (folder / "result").iterdir()] == ["new"]
    assert not (folder / "result.tmp").exists()


def test_a_known_failure_is_named_and_leaves_no_draft(folder: Path) -> None:
    def work(run: RunDir) -> None:
        (run.begin_result() / "half").touch()
        raise TooFewClasses(hint="More.")

    assert supervise(work, [str(folder)]) == FAILED
    error = json.loads((folder / "error.json").read_text())
    assert (error["code"], error["hint"]) == ("too_few_classes", "More.")
    assert sorted(path.name for path in folder.iterdir()) == [
        "error.json",
        "events.jsonl",
        "request.json",
    ]


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No"),
        OSError(errno.EDQUOT, "No"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_a_known_failure(folder: Path, full: Exception) -> None:
    def work(_: RunDir) -> None:
        raise full

    assert supervise(work, [str(folder)]) == FAILED
    assert json.loads((folder / "error.json").read_text())["code"] == "disk_full"


NO_ROOM_LEFT = """
import sys
from core.system import faults
from core.system.run_dir import supervise
def work(run):
    raise RuntimeError("No space left on device")
sys.exit(supervise(work, sys.argv[1:]))
"""


@pytest.mark.parametrize("reason_fits", [False, True])
def test_a_disk_without_room_for_the_traceback_or_the_reason_is_told_by_the_exit_code(
    folder: Path,
    reason_fits: bool,  # noqa: FBT001 - a parameter of the test.
) -> None:
    if not reason_fits:
        (folder / ".error.json.part").symlink_to("/dev/full")
    with Path("/dev/null" if not reason_fits else "/dev/full").open("w") as log:
        command = [sys.executable, "-c", NO_ROOM_LEFT, str(folder)]
        assert subprocess.run(command, stderr=log, check=False).returncode == NO_ROOM
    assert [path.name for path in folder.glob("*error*")] == []


def test_anything_else_is_a_crash(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def work(_: RunDir) -> None:
        raise ZeroDivisionError

    assert supervise(work, [str(folder)]) == CRASHED
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert not (folder / "error.json").exists()
    assert "ZeroDivisionError in tests/core/system/test_run_dir.py" in str(faults.recorded(folder))
    assert supervise(lambda _: None, [str(folder)]) == DONE
    assert faults.recorded(folder) is None  # It was that of an earlier attempt in this folder.
    assert supervise(work, []) == CRASHED
    assert "RUN_DIR" in capfd.readouterr().err
    assert supervise(work, [str(folder / "nowhere")]) == CRASHED


STUCK = """
import sys, threading
from core.system import faults
from core.system.run_dir import supervise
def work(run):
    threading.Thread(target=threading.Event().wait).start()
    run.events.phase("stuck")
    threading.Event().wait()
sys.exit(supervise(work, sys.argv[1:]))
"""


def test_sigterm_stops_wherever_it_arrives(folder: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", STUCK, str(folder)])
    events = folder / "events.jsonl"
    wait_for(lambda: events.exists() and events.read_text().endswith("\n"))
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == STOPPED
    assert not (folder / "error.json").exists()


def test_progress_is_bounded_in_rate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(folder)
    run.events.phase("decoding")
    for done in range(1000):
        run.events.progress(done / 1000, done, None)
        run.events.alive()
    monkeypatch.setattr("core.system.run_dir.PROGRESS_SECONDS", 0)
    monkeypatch.setattr("core.system.run_dir.ALIVE_SECONDS", 0)
    run.events.progress(0.9995, 1999, 1.26)
    run.events.progress(0.5, 1000, 1.0)
    run.events.alive()
    run.events.close()
    resumed = RunDir(folder)
    resumed.events.alive()
    resumed.events.close()
    phase, *frequent, progress, repeated, alive, later = [
        json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()
    ]
    assert phase == {"kind": "phase", "phase": "decoding"}
    assert len(frequent) < 5
    assert progress == {"kind": "progress", "progress": 0.9995, "step": 1999, "eta": 1.3}
    # Never a step backwards, and never silence: that would look like a process that hangs.
    assert repeated == {"kind": "progress", "progress": 0.9995, "step": 1999, "eta": None}
    assert alive == later == repeated


def test_a_resumed_run_repeats_nothing_it_said(folder: Path) -> None:
    first = RunDir(folder)
    first.events.finished_epoch({"epoch": 1})
    first.events.finished_epoch({"epoch": 2})
    first.events.close()
    with (folder / "events.jsonl").open("a") as events:
        events.write('{"kind": "epo')
    second = RunDir(folder)
    for epoch in (2, 3):
        second.events.finished_epoch({"epoch": epoch})
    second.events.close()
    told = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in told] == [1, 2, 3]


def test_a_process_that_was_lost_is_no_evidence_against_the_work(tmp_path: Path) -> None:
    """Lost twice, it would end its job as the same exception twice."""

    def work(_: RunDir) -> None:
        raise ChildLost("a helper does not start")

    (tmp_path / "request.json").write_text("{}")
    assert supervise(work, [str(tmp_path)]) == CRASHED
    assert faults.recorded(tmp_path) is None
