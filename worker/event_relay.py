"""Event relay: what a child writes to events.jsonl goes into the job's rows, once each."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from core.domain import events, leases
from core.store.db import AWAY, Database
from topwork.kinds import EventKind

MOST_BYTES = 1024 * 1024  # Of one read, so that a burst cannot hold the write lock for long.
PAUSE = 0.25  # Seconds between two tries to reach a database that is away.
log = structlog.get_logger()


class Tail:
    """Reads a growing file of JSON lines from where it last stopped; only whole lines count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the objects on the lines that were completed since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                whole, newline, rest = file.read(MOST_BYTES).rpartition(b"\n")
        except FileNotFoundError:
            return []
        if len(rest) == MOST_BYTES:  # No event is as long; what follows it must still be heard.
            whole = rest
        self.offset += len(whole) + len(newline)
        return [
            report for line in whole.split(b"\n") if line and (report := parse(line)) is not None
        ]


class Relay:
    """Writes a child's reports to the database in batches, guarded by the job's fence.

    An epoch enters the history exactly once. A killed worker may not have passed on what its
    child told before its last checkpoint: that lies in `earlier.jsonl`. A resumed child may
    tell again what its predecessor told after its last checkpoint: the history keeps the first.
    """

    def __init__(self, database: Database, job_id: str, fence: int, folder: Path) -> None:
        self._database, self._job_id, self._fence = database, job_id, fence
        self._tail = Tail(folder / "events.jsonl")
        self._unsent: list[dict[str, Any]] = []
        self._unsure = False
        self._heard_at = time.monotonic()
        self._phase = ""
        with database.read() as session:
            told = events.of_kind(session, job_id, EventKind.EPOCH)
        self._epochs = {event.data.get("epoch") for event in told}
        earlier = Tail(folder / "earlier.jsonl")
        while reports := earlier.read():
            self._take([report for report in reports if report.get("kind") == EventKind.EPOCH])

    @property
    def silence(self) -> float:
        """Seconds since the child last said anything."""
        return time.monotonic() - self._heard_at

    def pump(self) -> None:
        """Take over what is new; what a database that is away cannot take is kept.

        Raises:
            leases.LostLease: The job is no longer this worker's.
        """
        if reports := self._tail.read():
            self._heard_at = time.monotonic()
            self._take(reports)
        if not self._unsent:
            return
        try:
            with self._database.write() as session:
                unsent = self._untold(session) if self._unsure else self._unsent
                leases.record(session, self._job_id, self._fence, unsent)
            self._unsent, self._unsure = [], False
        except AWAY as error:
            self._unsure = True  # The commit may have been made and only its answer lost.
            log.warning("events.unsent", count=len(self._unsent), error=str(error))

    def _untold(self, session: Session) -> list[dict[str, Any]]:
        leases.held(session, self._job_id, self._fence)
        known = events.of_kind(session, self._job_id, EventKind.EPOCH)
        told = {event.data.get("epoch") for event in known}
        return [
            report
            for report in self._unsent
            if report.get("kind") != EventKind.EPOCH or report.get("epoch") not in told
        ]

    def flush(self, check: Callable[[], None]) -> None:
        """Take over everything that is left; `check` raises when that has become pointless."""
        before = -1
        while self._unsent or before != self._tail.offset:
            before = self._tail.offset
            check()
            self.pump()
            if self._unsent:
                time.sleep(PAUSE)

    def enter(self, phase: str) -> None:
        """Report a phase of the worker's own, unless the child said so last."""
        if phase != self._phase:
            self._take([{"kind": EventKind.PHASE, "phase": phase}])
            self.pump()

    def _take(self, reports: list[dict[str, Any]]) -> None:
        for report in reports:
            self._phase = str(report.get("phase", self._phase))
            epoch = report.get("epoch") if report.get("kind") == EventKind.EPOCH else None
            if epoch is None or epoch not in self._epochs:
                self._unsent.append(report)
            if epoch is not None:
                self._epochs.add(epoch)


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object on a line, None (logged) for anything else; NaN becomes null."""
    try:
        report = json.loads(line, parse_constant=lambda _: None)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        log.warning("child.garbage", line=line[:200].decode(errors="replace"))
        return None
    return report
