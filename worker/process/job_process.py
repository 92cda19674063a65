"""One job's child process group: start it, keep it alive, stop it, say how it ended."""

import contextlib
import enum
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from core.system import faults
from core.system.child import reader
from core.system.run_dir import CRASHED, DONE, FAILED, NO_ROOM, STOPPED
from worker.process.guard import SIGNALLED
from worker.process.oom_kills import oom_kills
from worker.process.prefork import WarmStart

REAP_SECONDS = 5.0  # For a killed guard to be gone; the kernel needs milliseconds.


class Ending(enum.Enum):
    """What a child's end means for its job."""

    DONE = "done"  # result/ is there.
    REFUSED = "refused"  # error.json says why this job cannot succeed.
    STOPPED = "stopped"  # It was asked to stop; the next attempt goes on from its checkpoint.
    OUT_OF_MEMORY = "out of memory"
    DISK_FULL = "disk full"  # Too full even for error.json.
    RAISED = "raised"  # exception.json says which exception nobody expected.
    KILLED = "killed"  # By somebody else, or by its guard when no heartbeat came.
    CRASHED = "crashed"


@dataclass(frozen=True)
class Exit:
    """How a child ended, with its exit code (negative or above 128: a signal)."""

    ending: Ending
    code: int

    def __str__(self) -> str:
        """Say it in words for the job's reason."""
        number = -self.code if self.code < 0 else self.code - SIGNALLED
        if number > 0:
            return f"killed by {signal.Signals(number).name}"
        return f"exit code {self.code}"


@dataclass(frozen=True)
class Guard:
    """The first process of a child's group, however it was started.

    Args:
        pid: Its number and the group's.
        lifeline: Our end: times go out, the work's exit code comes in.
        reap: Wait for its end and return how a killed guard ended.
    """

    pid: int
    lifeline: socket.socket
    reap: Callable[[], int]


class Process:
    """A running `worker.process.guard MODULE RUN_DIR`; leaving the context kills its group.

    Args:
        module: What to run; it obeys the contract of RUN_DIR.
        run_dir: The attempt's folder; `log.txt` in it takes stdout and stderr.
        good_until: Monotonic time at which the child kills itself unless extended.
        threads: Size of the child's OpenMP pools.
        warm: Where the child is forked, imports done, if that is possible now.
    """

    def __init__(
        self,
        module: str,
        run_dir: Path,
        *,
        good_until: float,
        threads: int,
        warm: WarmStart | None = None,
    ) -> None:
        self.run_dir = run_dir
        self._stopping = False
        self._kill_at = float("inf")
        self._killed = False
        self._gone = False
        self._lock = threading.Lock()
        self._ooms = oom_kills()
        with (run_dir / "log.txt").open("ab") as log:
            forked = warm and warm.fork(module, run_dir, output=log.fileno(), threads=threads)
            self.warm = bool(forked)
            self._guard = adopt(*forked) if forked else spawn(module, run_dir, log, threads)
        self._lifeline = self._guard.lifeline
        self._news = select.poll()
        self._news.register(self._lifeline, select.POLLIN)
        self.extend(good_until)

    @property
    def pid(self) -> int:
        """Id of the guard and of the process group."""
        return self._guard.pid

    def __enter__(self) -> Self:
        """Use the process."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave nothing of it behind."""
        self.kill()
        self._guard.reap()
        with self._lock:
            self._lifeline.close()

    def extend(self, good_until: float) -> None:
        """Let the child live until this monotonic time; safe from another thread."""
        with self._lock, contextlib.suppress(OSError):
            self._lifeline.send(f"{good_until!r}\n".encode())

    def stop(self, grace: float) -> None:
        """Ask once to save a checkpoint and leave; `wait` kills after the shortest grace asked."""
        if self._gone:
            return
        self._kill_at = min(self._kill_at, time.monotonic() + grace)
        if not self._stopping:
            self._stopping = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill every process of the group, also those the work has left behind."""
        self._killed = True
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> Exit | None:
        """Return how the child ended, or None when it still runs after `timeout` seconds."""
        if time.monotonic() >= self._kill_at:
            self.kill()
        if not self._news.poll(timeout * 1000):
            return None
        told = b""
        with contextlib.suppress(ConnectionResetError):  # Killed before it had read everything.
            told = self._lifeline.recv(32)
        out_of_memory = not self._killed and oom_kills() > self._ooms
        self.kill()
        ended = self._guard.reap()
        self._gone = True  # From here on its number may be another process's.
        return classify(
            int(told) if told else ended,
            done=(self.run_dir / "result").is_dir(),
            refused=(self.run_dir / "error.json").is_file(),
            raised=(self.run_dir / faults.FILE).is_file(),
            stopping=self._stopping,
            out_of_memory=out_of_memory,
        )


def spawn(module: str, run_dir: Path, log: IO[bytes], threads: int) -> Guard:
    """Start a child cold: its imports are still to come."""
    ours, theirs = socket.socketpair()
    with theirs:
        child = reader("-m", "worker.process.guard", module, str(run_dir), threads=threads)
        popen = subprocess.Popen(
            child.command,
            stdin=theirs.fileno(),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child.env,
            start_new_session=True,
        )
    ours.settimeout(0)
    return Guard(popen.pid, ours, popen.wait)


def adopt(pid: int, lifeline: socket.socket) -> Guard:
    """Take over a child whose parent is the forkserver: its lifeline's close tells its end."""

    def reap() -> int:
        end = select.poll()
        end.register(lifeline, 0)  # POLLHUP alone, which is always reported.
        end.poll(REAP_SECONDS * 1000)
        return -signal.SIGKILL

    return Guard(pid, lifeline, reap)


def classify(
    code: int, *, done: bool, refused: bool, raised: bool, stopping: bool, out_of_memory: bool
) -> Exit:
    """Decide what an exit code means, given what lies in RUN_DIR and what was asked.

    Code 0 without a result and 2 without an error are crashes: the contract was broken.
    """
    number = -code if code < 0 else code - SIGNALLED
    killed = number in (signal.SIGTERM, signal.SIGKILL)
    meanings = (
        (Ending.DONE, code == DONE and done),
        (Ending.REFUSED, code == FAILED and refused),
        (Ending.STOPPED, code == STOPPED or (stopping and killed)),
        (Ending.OUT_OF_MEMORY, out_of_memory and number == signal.SIGKILL),
        (Ending.KILLED, number == signal.SIGKILL),
        (Ending.DISK_FULL, code == NO_ROOM),
        (Ending.RAISED, code == CRASHED and raised),
    )
    return Exit(next((ending for ending, holds in meanings if holds), Ending.CRASHED), code)
