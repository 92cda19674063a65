"""The run directory, from the inside: events, a complete result or an error, and the exit code.

The supervisor knows a run only by this folder, so each file appears whole: events are appended a
line at a time, everything else is written beside its place, synced and renamed. Ingestion and
training both speak through this module, so the contract is written once.
"""

import contextlib
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

from core.system import faults
from core.system.atomic_files import sync, write_atomically
from core.system.disk import is_full
from core.system.failpoints import hit
from core.system.machine import ran_out_of_memory
from topwork.errors import DiskFull, OutOfMemory, TopworkError
from topwork.kinds import EventKind

DONE, CRASHED, FAILED, STOPPED = 0, 1, 2, 75
NO_ROOM = 74  # The disk is too full even for the reason.
PROGRESS_SECONDS = 0.25
ALIVE_SECONDS = 10.0


class ChildLost(RuntimeError):
    """A process that this one needs ended or does not start; no evidence against the job's code."""


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
        self._fraction = 0.0
        self._reported = time.monotonic() - PROGRESS_SECONDS
        if path.exists():
            self._read_back(path)
        self._file = path.open("a", encoding="utf-8")

    def emit(self, kind: str, **data: Any) -> None:
        """Append one event."""
        hit("events.before_append")
        self._file.write(json.dumps({"kind": kind, **data}, allow_nan=False) + "\n")
        self._file.flush()
        hit("events.after_append")

    def phase(self, name: str) -> None:
        """Say which part of the work begins."""
        self.emit(EventKind.PHASE, phase=name)

    def note(self, code: str, message: str) -> None:
        """Say something a user should know about the result."""
        self.emit(EventKind.NOTE, code=code, message=message)

    def finished_epoch(self, record: dict[str, Any]) -> None:
        """Report one epoch, unless an earlier attempt already did."""
        if record["epoch"] > self.epoch:
            self.epoch = record["epoch"]
            self.emit(EventKind.EPOCH, **record)

    def progress(self, fraction: float, step: int, eta: float | None) -> None:
        """Report at most four times a second how far the run is; `eta` in seconds."""
        if step <= self.step:
            self.alive()
            return
        now = time.monotonic()
        if now - self._reported < PROGRESS_SECONDS:
            return
        self.step, self._reported, self._fraction = step, now, round(min(fraction, 1.0), 4)
        rest = None if eta is None else round(eta, 1)
        self.emit(EventKind.PROGRESS, progress=self._fraction, step=step, eta=rest)

    def alive(self) -> None:
        """Say now and then that work goes on where nothing is counted, or counted before.

        A supervisor takes a long silence for a process that hangs.
        """
        now = time.monotonic()
        if now - self._reported >= ALIVE_SECONDS:
            self._reported = now
            self.emit(EventKind.PROGRESS, progress=self._fraction, step=self.step, eta=None)

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
            if event["kind"] == EventKind.EPOCH:
                self.epoch = max(self.epoch, event["epoch"])
            elif event["kind"] == EventKind.PROGRESS:
                self.step = max(self.step, event["step"])
                self._fraction = max(self._fraction, event["progress"])


class RunDir:
    """The folder of one run and the supervisor's wish to stop it.

    Args:
        path: The folder.
        quiet: Say and write nothing: another process does.
    """

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        self.path, self.quiet = path.resolve(), quiet
        self.result = self.path / "result"
        self.events = Events(Path(os.devnull) if quiet else self.path / "events.jsonl")
        self.stopping = False

    @property
    def checkpoint(self) -> Path:
        """The folder that the next attempt finds again."""
        folder = self.path / "checkpoint"
        folder.mkdir(exist_ok=True)
        return folder

    def request(self) -> bytes:
        """Return the JSON text of `request.json`."""
        return (self.path / "request.json").read_bytes()

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
        for path in [*folder.rglob("*"), folder]:
            sync(path)
        shutil.rmtree(self.result, ignore_errors=True)
        hit("result.before_rename")
        folder.rename(self.result)
        hit("result.after_rename")
        sync(self.path)

    def fail(self, error: TopworkError) -> None:
        """Drop what was built and write `error.json`."""
        if self.quiet:
            return
        shutil.rmtree(self.path / "result.tmp", ignore_errors=True)
        write_atomically(self.path / "error.json", json.dumps(error.to_dict()).encode())

    def give_up(self, error: Exception, *, began: bool = True) -> int:
        """Leave what is known of an exception that the work did not expect; return the exit code.

        What the machine lacks is an error that a user can act on; anything else is evidence. Where
        the work never `began`, no other order to it would need less memory.
        """
        known = _named(error)
        if isinstance(known, OutOfMemory):
            known = no_memory(began=began)
        if known is None:
            if not isinstance(error, ChildLost):
                faults.record(self.path, error)
            return CRASHED
        self.fail(known)
        return FAILED


def supervise(
    work: Callable[[RunDir], None], arguments: list[str], *, resumable: bool = False
) -> int:
    """Run `work` on the folder named on the command line; return the exit code of the contract.

    SIGTERM sets `RunDir.stopping` where the work is resumable, so that it can save a checkpoint
    and raise Stopped; other work is left at once, whatever its threads are doing. An exception that
    the work did not expect prints its traceback into the log, leaves `exception.json` and exits 1,
    which asks the supervisor to try again, once.
    """
    if len(arguments) != 1 or not (Path(arguments[0]) / "request.json").is_file():
        sys.stderr.write("usage: python -P -m MODULE RUN_DIR (a folder with request.json)\n")
        return CRASHED
    run = RunDir(Path(arguments[0]))

    def stop(_signal: int, _frame: object) -> None:
        run.stopping = True
        if not resumable:
            os._exit(STOPPED)

    before = signal.signal(signal.SIGTERM, stop)
    for name in ("error.json", faults.FILE):
        (run.path / name).unlink(missing_ok=True)
    try:
        return attempt(work, run)
    except OSError as error:
        if not is_full(error):
            raise
        # Neither reason nor traceback could be written; to flush them on the way out would fail.
        os._exit(NO_ROOM)
    finally:
        with contextlib.suppress(OSError):  # What a full disk has refused before.
            run.events.close()
        signal.signal(signal.SIGTERM, before)


def attempt(work: Callable[[RunDir], None], run: RunDir) -> int:
    """Run `work`; return the exit code of the contract."""
    try:
        work(run)
    except Stopped:
        return STOPPED
    except TopworkError as error:
        run.fail(error)
        return FAILED
    except Exception as error:  # noqa: BLE001 - the log and the exit code say what happened.
        traceback.print_exc()
        return run.give_up(error)
    return DONE


def no_memory(*, began: bool) -> OutOfMemory:
    """Return the error for a work that ran out of memory, or never began for want of it."""
    if began:
        return OutOfMemory()
    return OutOfMemory(
        "There is too little memory here to start a job.",
        hint="Give this machine or container more memory, or run fewer jobs at once.",
    )


def _named(error: Exception) -> TopworkError | None:
    """Recognise failures of the machine that a user can act on."""
    if ran_out_of_memory(error):
        return OutOfMemory()
    # safetensors says it in words, without a number.
    if is_full(error) or "no space left" in str(error).lower():
        return DiskFull()
    return None
