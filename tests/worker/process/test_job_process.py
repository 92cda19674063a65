"""Real child processes: how they end, and that none outlives what it belongs to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.system import faults
from tests.waiting import wait_for
from tests.worker.conftest import living
from worker.process.job_process import Ending, Exit, Process, classify
from worker.process.prefork import WarmStart

CHILD = "tests.worker.fake_child"
FOREVER = 3600.0
Start = Callable[..., Process]


def prepare(gate: Path, script: dict[str, str], **more: object) -> Path:
    run_dir = gate.parent / "run"
    run_dir.mkdir(exist_ok=True)
    request = {"steps": 3, "gate": str(gate), "script": script, **more}
    (run_dir / "request.json").write_text(json.dumps(request))
    return run_dir


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmStart]:
    """A forkserver that is ready."""
    with WarmStart([CHILD], threads=1) as made:
        wait_for(lambda: made.pid)
        yield made


@pytest.fixture(params=["cold", "warm"])
def start(request: pytest.FixtureRequest) -> Start:
    """Start a child in each of the two ways."""
    warm = request.getfixturevalue("warm") if request.param == "warm" else None

    def start_one(run_dir: Path, good_for: float = FOREVER) -> Process:
        good_until = time.monotonic() + good_for
        process = Process(CHILD, run_dir, good_until=good_until, threads=1, warm=warm)
        assert process.warm is (request.param == "warm")
        return process

    return start_one


def end_of(process: Process) -> Exit:
    return wait_for(lambda: process.wait(0.05), 20)


@pytest.mark.parametrize(
    ("action", "ending", "says"),
    [
        ("", Ending.DONE, "exit code 0"),
        ("refuse", Ending.REFUSED, "exit code 2"),
        ("crash", Ending.CRASHED, "exit code 1"),
        ("raise", Ending.RAISED, "exit code 1"),
        ("vanish", Ending.CRASHED, "exit code 0"),
        ("segfault", Ending.CRASHED, "killed by SIGSEGV"),
    ],
)
def test_each_end_is_told_apart(
    start: Start, gate: Path, action: str, ending: Ending, says: str
) -> None:
    run_dir = prepare(gate, {"2": action})
    with start(run_dir) as process:
        ended = end_of(process)
    assert (ended.ending, str(ended)) == (ending, says)
    assert "starts at step 0" in (run_dir / "log.txt").read_text()


def test_a_child_that_is_asked_saves_and_leaves(start: Start, gate: Path) -> None:
    run_dir = prepare(gate, {"2": "wait"})
    with start(run_dir) as process:
        wait_for((gate / "waiting").exists)
        process.stop(grace=30)
        assert end_of(process) == Exit(Ending.STOPPED, 75)
    assert (run_dir / "checkpoint" / "step").read_text() == "1"


def test_a_child_that_ignores_the_request_is_killed_after_its_grace(
    start: Start, gate: Path
) -> None:
    with start(prepare(gate, {"2": "ignore_and_wait"})) as process:
        wait_for((gate / "waiting").exists)
        asked = time.monotonic()
        process.stop(grace=0.3)
        assert end_of(process).ending is Ending.STOPPED
        assert 0.3 <= time.monotonic() - asked < 3


def test_a_cancel_shortens_the_grace_that_a_pause_gave(start: Start, gate: Path) -> None:
    with start(prepare(gate, {"2": "ignore_and_wait"})) as process:
        wait_for((gate / "waiting").exists)
        process.stop(grace=600)
        assert process.wait(0.1) is None
        process.stop(grace=0.3)
        process.stop(grace=600)
        assert end_of(process).ending is Ending.STOPPED


def test_what_a_child_leaves_behind_ends_with_it(start: Start, gate: Path) -> None:
    with start(prepare(gate, {"2": "litter"})) as process:
        assert end_of(process).ending is Ending.DONE
        assert len((gate / "pids").read_text().split()) == 2
        wait_for(lambda: not living(gate), 2)


def test_leaving_the_context_kills_the_group(start: Start, gate: Path) -> None:
    with start(prepare(gate, {"1": "litter", "2": "wait"})):
        wait_for((gate / "waiting").exists)
        assert len(living(gate)) == 2
    wait_for(lambda: not living(gate), 1)


def test_a_child_that_is_not_extended_dies_at_its_time(start: Start, gate: Path) -> None:
    with start(prepare(gate, {"2": "wait"}), good_for=20) as process:
        wait_for((gate / "waiting").exists)
        process.extend(time.monotonic() + 0.5)
        assert process.wait(0.2) is None
        process.extend(time.monotonic() + 1.0)
        assert process.wait(0.6) is None, "the second extension should have counted"
        assert wait_for(lambda: process.wait(0.05), 2).ending is Ending.KILLED


def test_a_stopped_work_cannot_keep_itself_alive(start: Start, gate: Path) -> None:
    """The guard needs no help from the work, which may hang in C code or be frozen."""
    with start(prepare(gate, {"2": "wait"}), good_for=20) as process:
        wait_for((gate / "waiting").exists)
        (pid,) = living(gate)
        os.kill(pid, signal.SIGSTOP)
        process.extend(time.monotonic() + 0.3)
        wait_for(lambda: process.wait(0.05), 2)
    wait_for(lambda: not living(gate), 2)  # Killed with its guard, but to die takes a moment.


@pytest.mark.parametrize("modules", [[], [CHILD]], ids=["cold", "warm"])
def test_killing_the_supervisor_takes_the_work_along(gate: Path, modules: list[str]) -> None:
    """The supervisor here is a process of its own, so that SIGKILL leaves it no last words."""
    run_dir = prepare(gate, {"1": "litter", "2": "wait"})
    code = (
        "import sys, time, pathlib; from worker.process.job_process import Process\n"
        "from worker.process.prefork import WarmStart\n"
        f"with WarmStart({modules}, threads=1) as warm:\n"
        f"  while not warm.pid and {modules}: time.sleep(0.01)\n"
        f"  p = Process({CHILD!r}, pathlib.Path(sys.argv[1]),"
        " good_until=time.monotonic() + 1000, threads=1, warm=warm)\n"
        f"  assert p.warm is bool({modules})\n"
        "  time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run_dir)]) as supervisor:
        wait_for((gate / "waiting").exists)
        assert len(living(gate)) == 2
        supervisor.kill()
        killed_at = time.monotonic()
        wait_for(lambda: not living(gate), 5)
        assert time.monotonic() - killed_at <= 1.0


def test_killing_the_guard_takes_the_work_along(start: Start, gate: Path) -> None:
    with start(prepare(gate, {"2": "wait"})) as process:
        wait_for((gate / "waiting").exists)
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not living(gate), 1)


def test_the_work_is_nice_and_first_in_line_for_the_oom_killer(start: Start, gate: Path) -> None:
    with start(prepare(gate, {"2": "wait"})):
        wait_for((gate / "waiting").exists)
        (pid,) = living(gate)
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 500


@pytest.mark.parametrize(
    ("code", "facts", "ending"),
    [
        (0, {"done": True}, Ending.DONE),
        (0, {}, Ending.CRASHED),
        (2, {}, Ending.CRASHED),
        (74, {}, Ending.DISK_FULL),
        (75, {}, Ending.STOPPED),
        (137, {}, Ending.KILLED),
        (-9, {}, Ending.KILLED),
        (137, {"stopping": True}, Ending.STOPPED),
        (137, {"out_of_memory": True}, Ending.OUT_OF_MEMORY),
        (-9, {"out_of_memory": True}, Ending.OUT_OF_MEMORY),
        (139, {"out_of_memory": True}, Ending.CRASHED),
        (143, {}, Ending.CRASHED),
        (143, {"stopping": True}, Ending.STOPPED),
        (-15, {"stopping": True}, Ending.STOPPED),
        (1, {"stopping": True}, Ending.CRASHED),
        (1, {"raised": True}, Ending.RAISED),
        (1, {"refused": True}, Ending.CRASHED),
        (0, {"raised": True}, Ending.CRASHED),
        (0, {"raised": True, "done": True}, Ending.DONE),
        (134, {"raised": True}, Ending.CRASHED),
    ],
)
def test_exit_codes_are_read_with_what_is_known(
    code: int, facts: dict[str, bool], ending: Ending
) -> None:
    unknown = {"done": False, "refused": False, "raised": False}
    unknown |= {"stopping": False, "out_of_memory": False}
    assert classify(code, **(unknown | facts)).ending is ending


CRAMPED = """
import resource
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20),) * 2)
import torch
"""


def end_of_module(gate: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Exit, Path]:
    """Run a module of this text as a child."""
    run_dir = prepare(gate, {})
    (run_dir / "never_begins.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(run_dir))
    until = time.monotonic() + FOREVER
    with Process("never_begins", run_dir, good_until=until, threads=1) as process:
        return end_of(process), run_dir


def test_an_exception_before_the_work_begins_is_evidence_as_well(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, run_dir = end_of_module(gate, "import nothing_of_this_name\n", monkeypatch)
    assert ended.ending is Ending.RAISED
    fault = faults.recorded(run_dir)
    assert fault is not None
    assert (fault.exception, fault.place) == (
        "ModuleNotFoundError",
        "never_begins.py, line 1, <module>",
    )
    assert "Traceback" in (run_dir / "log.txt").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_want_of_address_space_before_the_work_begins_is_told_by_name(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, run_dir = end_of_module(gate, CRAMPED, monkeypatch)
    assert ended.ending is Ending.REFUSED, (run_dir / "log.txt").read_text()
    error = json.loads((run_dir / "error.json").read_text())
    assert (error["code"], "batch_size" in error["hint"]) == ("out_of_memory", False)


STOPPED_TOO_LATE = """
import os, signal
from worker.process import guard
plain = os.waitpid
def waitpid(pid, options):
    answer = plain(pid, options)
    if answer[0]:
        os.kill(os.getpid(), signal.SIGTERM)
    return answer
os.waitpid = waitpid
lifeline = guard.Lifeline(guard.LIFELINE)
lifeline.read()
work = os.fork()
if not work:
    os._exit(0)
guard.watch(work, lifeline)
"""


def test_a_stop_that_comes_when_the_work_has_just_ended_changes_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guard = subprocess.Popen(
            [sys.executable, "-c", STOPPED_TOO_LATE], stdin=theirs.fileno(), start_new_session=True
        )
        theirs.close()
        ours.settimeout(30)
        ours.send(f"{time.monotonic() + 30}\n".encode())
        assert ours.recv(32) == b"0\n"
    assert guard.wait(5) == -signal.SIGKILL, "it stays until its lifeline closes"
