"""RUN_DIR from the inside: events out, a complete result or a named error, and the exit code.

The supervisor knows a run only by this folder, so each file appears whole: events are appended a
line at a time, everything else is written beside its place, synced and renamed.
"""

import errno
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import DiskFull, TopworkError

DONE, CRASHED, FAILED, STOPPED = 0, 1, 2, 75
PROGRESS_SECONDS = 0.25
ALIVE_SECONDS = 10.0


class RunDir:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._events = (self.path / "events.jsonl").open("a", encoding="utf-8")
        self._started = time.monotonic()
        self._reported = time.monotonic()

    def request(self) -> dict[str, Any]:
        """Return what `request.json` asks for."""
        content: dict[str, Any] = json.loads((self.path / "request.json").read_bytes())
        return content

    def emit(self, kind: str, **data: Any) -> None:
        """Append one event."""
        self._events.write(json.dumps({"kind": kind, **data}, allow_nan=False) + "\n")
        self._events.flush()

    def phase(self, name: str) -> None:
        """Say which part of the work begins; the time left is estimated from here on."""
        self._started = time.monotonic()
        self.emit("phase", phase=name)

    def progress(self, done: int, total: int) -> None:
        """Report at most four times a second how far the phase is."""
        now = time.monotonic()
        if not done or now - self._reported < PROGRESS_SECONDS:
            return
        self._reported = now
        eta = (now - self._started) * (total - done) / done
        self.emit("progress", progress=round(done / total, 4), step=done, eta=round(eta, 1))

    def alive(self) -> None:
        """Say now and then that work goes on where there is nothing yet to count."""
        now = time.monotonic()
        if now - self._reported >= ALIVE_SECONDS:
            self._reported = now
            self.emit("progress", progress=0.0, step=0, eta=None)

    def begin_result(self) -> Path:
        """Return an empty folder to build the result in."""
        folder = self.path / "result.tmp"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.path / "result", ignore_errors=True)
        (self.path / "error.json").unlink(missing_ok=True)
        folder.mkdir()
        return folder

    def publish_result(self) -> None:
        """Make the built folder the result, durably and in one step."""
        folder = self.path / "result.tmp"
        for path in [*folder.rglob("*"), folder]:
            sync(path)
        folder.rename(self.path / "result")
        sync(self.path)

    def fail(self, error: TopworkError) -> None:
        """Drop what was built and write `error.json`."""
        shutil.rmtree(self.path / "result.tmp", ignore_errors=True)
        part = self.path / ".error.json.part"
        part.write_text(json.dumps(error.to_dict()), encoding="utf-8")
        sync(part)
        part.rename(self.path / "error.json")
        sync(self.path)

    def close(self) -> None:
        """Close the event file."""
        self._events.close()


def supervise(work: Callable[[RunDir], None], arguments: list[str]) -> int:
    """Run `work` on the folder named on the command line; return the contract's exit code.

    A crash prints its traceback into the log and exits 1, which asks the supervisor to try again.
    """
    if len(arguments) != 1 or not (Path(arguments[0]) / "request.json").is_file():
        sys.stderr.write("usage: python -m MODULE RUN_DIR (a folder with request.json)\n")
        return CRASHED
    run = RunDir(Path(arguments[0]))

    # Nothing is kept of a stopped run, so it may be left at any point, whatever threads are doing.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: os._exit(STOPPED))
    try:
        return _attempt(work, run)
    finally:
        run.close()


def _attempt(work: Callable[[RunDir], None], run: RunDir) -> int:
    try:
        work(run)
    except TopworkError as error:
        run.fail(error)
        return FAILED
    except Exception as error:  # noqa: BLE001 - the log and the exit code say what happened.
        traceback.print_exc()
        if not isinstance(error, OSError) or error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return CRASHED
        run.fail(DiskFull())
        return FAILED
    return DONE


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
