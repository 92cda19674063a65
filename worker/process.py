"""One job's child process group: start it, keep it alive, stop it, say how it ended."""

import contextlib
import enum
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from core.rundir import DONE, FAILED, STOPPED
from worker.child import SIGNALLED
from worker.machine import oom_kills

PRIVATE = ("TOPWORK_", "AWS_", "PG")  # A process that decodes strangers' files sees no secrets.


class Ending(enum.Enum):
    """What a child's end means for its job."""

    DONE = "done"  # result/ is there.
    REFUSED = "refused"  # error.json says why this job cannot succeed.
    STOPPED = "stopped"  # It was asked to stop; the next attempt goes on from its checkpoint.
    OUT_OF_MEMORY = "out of memory"
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


class Process:
    """A running `python -m worker.child MODULE RUN_DIR`; leaving the context kills its group.

    Args:
        module: What to run; it obeys the contract of RUN_DIR.
        run_dir: The attempt's folder; `log.txt` in it takes stdout and stderr.
        good_until: Monotonic time at which the child kills itself unless extended.
        threads: Size of the child's OpenMP pools.
    """

    def __init__(self, module: str, run_dir: Path, *, good_until: float, threads: int) -> None:
        self.run_dir = run_dir
        self._stopping = False
        self._kill_at = float("inf")
        self._killed = False
        self._gone = False
        self._lock = threading.Lock()
        self._ooms = oom_kills()
        with (run_dir / "log.txt").open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "worker.child", module, str(run_dir)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(threads),
                start_new_session=True,
            )
        assert self._popen.stdin is not None  # noqa: S101 - it was asked for just above.
        self._lifeline = self._popen.stdin
        os.set_blocking(self._lifeline.fileno(), False)
        self.extend(good_until)

    @property
    def pid(self) -> int:
        """Id of the guard and of the process group."""
        return self._popen.pid

    def __enter__(self) -> Self:
        """Use the process."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave nothing of it behind."""
        self.kill()
        self._popen.wait()
        with self._lock:
            self._lifeline.close()

    def extend(self, good_until: float) -> None:
        """Let the child live until this monotonic time; safe from another thread."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._lifeline.write(f"{good_until!r}\n".encode())

    def stop(self, grace: float) -> None:
        """Ask once to save a checkpoint and leave; `wait` kills after `grace` seconds."""
        if not self._stopping:
            self._stopping = True
            self._kill_at = time.monotonic() + grace
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill every process of the group, also those the work has left behind."""
        self._killed = True
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> Exit | None:
        """Return how the child ended, or None when it still runs after `timeout` seconds."""
        if time.monotonic() >= self._kill_at:
            self.kill()
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        out_of_memory = not self._killed and oom_kills() > self._ooms
        self.kill()
        self._gone = True  # From here on its number may be another process's.
        return classify(
            code,
            done=(self.run_dir / "result").is_dir(),
            refused=(self.run_dir / "error.json").is_file(),
            stopping=self._stopping,
            out_of_memory=out_of_memory,
        )


def classify(code: int, *, done: bool, refused: bool, stopping: bool, out_of_memory: bool) -> Exit:
    """Decide what an exit code means, given what lies in RUN_DIR and what was asked.

    Code 0 without a result and 2 without an error are crashes: the contract was broken.
    """
    number = -code if code < 0 else code - SIGNALLED
    if code == DONE and done:
        return Exit(Ending.DONE, code)
    if code == FAILED and refused:
        return Exit(Ending.REFUSED, code)
    if code == STOPPED or (stopping and number in (signal.SIGTERM, signal.SIGKILL)):
        return Exit(Ending.STOPPED, code)
    if out_of_memory and number == signal.SIGKILL:
        return Exit(Ending.OUT_OF_MEMORY, code)
    return Exit(Ending.CRASHED, code)


def environment(threads: int) -> dict[str, str]:
    """Return the child's environment: ours without secrets, its thread pools bounded.

    GOMP_SPINCOUNT=0 because waiting OpenMP threads otherwise spin on cores that serving needs
    (docs/design.md): 12-15 instead of 8 images a second next to one busy process on two cores.
    """
    mine = {key: value for key, value in os.environ.items() if not key.startswith(PRIVATE)}
    return mine | {
        "GOMP_SPINCOUNT": "0",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
    }
