"""RUN_DIR from the inside: events out, a complete result or a named error, and the exit code.

The supervisor knows a run only by this folder, so each file appears whole: events are appended a
line at a time, everything else is written beside its place, synced and renamed.
"""

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

from core.errors import DiskFull, OutOfMemory, TopworkError

DONE, FAILED, STOPPED, CRASHED = 0, 2, 75, 1
PROGRESS_SECONDS = 0.25


class Stopped(Exception):
    """The supervisor asked this process to stop; everything worth keeping is saved."""


class Events:
    """`events.jsonl`: one JSON object a line, never an epoch twice, never a step backwards.

    Work done after the last checkpoint is repeated when a run resumes; what it already said is
    known from the file and is not said again.
    """

    def __init__(self, path: Path) -> None:
        self.epoch = 0
        self.step = 0
        self._last_progress = 0.0
        if path.exists():
            self._read_back(path)
        self._file = path.open("a", encoding="utf-8")

    def emit(self, kind: str, **data: Any) -> None:
        """Append one event."""
        self._file.write(json.dumps({"kind": kind, **data}, allow_nan=False) + "\n")
        self._file.flush()

    def phase(self, name: str) -> None:
        """Say which part of the work begins."""
        self.emit("phase", phase=name)

    def note(self, code: str, message: str) -> None:
        """Say something a user should know about the result."""
        self.emit("note", code=code, message=message)

    def finished_epoch(self, record: dict[str, Any]) -> None:
        """Report one epoch, unless an earlier attempt already did."""
        if record["epoch"] > self.epoch:
            self.epoch = record["epoch"]
            self.emit("epoch", **record)

    def progress(self, fraction: float, step: int, eta: float | None) -> None:
        """Report at most four times a second how far the run is; `eta` in seconds."""
        now = time.monotonic()
        if step <= self.step or now - self._last_progress < PROGRESS_SECONDS:
            return
        self.step, self._last_progress = step, now
        rest = None if eta is None else round(eta, 1)
        self.emit("progress", progress=round(min(fraction, 1.0), 4), step=step, eta=rest)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_back(self, path: Path) -> None:
        """Drop a torn last line and learn what was said before."""
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            os.truncate(path, len(whole))
        for line in whole.splitlines():
            event = json.loads(line)
            if event["kind"] == "epoch":
                self.epoch = max(self.epoch, event["epoch"])
            elif event["kind"] == "progress":
                self.step = max(self.step, event["step"])


class RunDir:
    """The folder of one run and the supervisor's wish to stop it."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.checkpoint = self.path / "checkpoint"
        self.checkpoint.mkdir(exist_ok=True)
        self.result = self.path / "result"
        self.events = Events(self.path / "events.jsonl")
        self.stopping = False

    def request(self) -> str:
        """Return the text of `request.json`."""
        return (self.path / "request.json").read_text(encoding="utf-8")

    def check_stop(self) -> None:
        """Raise Stopped between two pieces of work when SIGTERM has arrived."""
        if self.stopping:
            raise Stopped

    def begin_result(self) -> Path:
        """Return an empty folder to build the result in."""
        folder = self.path / "result.tmp"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def publish_result(self, folder: Path) -> None:
        """Make the built folder the result, durably and in one step."""
        for file in folder.iterdir():
            sync(file)
        sync(folder)
        shutil.rmtree(self.result, ignore_errors=True)
        folder.rename(self.result)
        sync(self.path)

    def fail(self, error: TopworkError) -> None:
        """Write `error.json`."""
        write_atomically(self.path / "error.json", json.dumps(error.to_dict()).encode())


def supervise(work: Callable[[RunDir], None], arguments: list[str]) -> int:
    """Run `work` on the folder named on the command line; return the exit code of the contract.

    A crash prints its traceback into the log and exits 1, which asks the supervisor to try again.
    """
    if len(arguments) != 1 or not (Path(arguments[0]) / "request.json").is_file():
        sys.stderr.write("usage: python -m MODULE RUN_DIR (a folder with request.json)\n")
        return CRASHED
    run = RunDir(Path(arguments[0]))

    def stop(_signal: int, _frame: object) -> None:
        run.stopping = True

    before = signal.signal(signal.SIGTERM, stop)
    (run.path / "error.json").unlink(missing_ok=True)
    try:
        work(run)
    except Stopped:
        return STOPPED
    except TopworkError as error:
        run.fail(error)
        return FAILED
    except Exception as error:  # noqa: BLE001 - this is the edge of the process.
        traceback.print_exc()
        known = _named(error)
        if known is None:
            return CRASHED
        run.fail(known)
        return FAILED
    finally:
        run.events.close()
        signal.signal(signal.SIGTERM, before)
    return DONE


def _named(error: Exception) -> TopworkError | None:
    """Recognise failures of the machine that a user can act on."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return OutOfMemory()
    if isinstance(error, OSError) and error.errno in {28, 122}:  # ENOSPC, EDQUOT
        return DiskFull()
    return None


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a reader or a crash sees the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    sync(part)
    part.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
