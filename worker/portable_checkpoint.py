"""Portable checkpoints: what an attempt keeps also goes to storage, for workers on other hosts.

The worker's thread of a job links the files, a thread beside it stores them, and then a row names
them: the last whole set wins (`core.domain.checkpoints`). What no row names is garbage. Before
that, the first thread fetches the set of an earlier attempt on another host.
"""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import structlog

from core.domain import checkpoints, leases
from core.ops import garbage
from core.store.resources import Resources
from core.store.tables import Job, JobCheckpoint
from core.system.failpoints import hit
from topwork.errors import IntegrityError, NotFound
from topwork.kinds import EventKind
from worker import attempt
from worker.kinds.kind import Check, fetch
from worker.outcomes import AWAY

LOOK_SECONDS = 1.0  # Between two looks for something new.
LAST_SECONDS = 20.0  # For the last set of an attempt at most.
log = structlog.get_logger()
Identity = tuple[int, int, int]  # Of a file: its inode, size and time.
Marks = dict[str, Identity]  # By path within the checkpoint.


def is_portable(resources: Resources) -> bool:
    """Tell whether other hosts may reach the storage: not where it lies within the data folder."""
    root = resources.storage.root
    return root is None or not root.is_relative_to(resources.settings.data_dir)


class Shipper:
    """Brings and stores the checkpoints of one attempt; used by the thread that runs its job.

    Args:
        resources: Open handles.
        job: The row as claimed.
        folder: The attempt's.
    """

    def __init__(self, resources: Resources, job: Job, folder: Path) -> None:
        self._resources, self._job, self._folder = resources, job, folder
        self._checkpoint, self._links = folder / "checkpoint", folder / "shipping"
        self._portable = is_portable(resources)
        self._named: checkpoints.Files = {}  # What the row names, as far as it came from here.
        self._stored: dict[Identity, dict[str, Any]] = {}
        self._sets = 0
        self._due = 0.0
        self._thread: threading.Thread | None = None

    def begin(self, check: Check) -> None:
        """Make the attempt's folder with the newest checkpoint, of this host or out of storage.

        Until it is whole, an older one of this host is nowhere where it counts as this attempt's.
        `check` raises where there is a reason to go no further.
        """
        named = self._find()
        fence = named.fence if named else 0
        local = attempt.prepare(self._folder, fence)
        if named and local < fence:
            self._fetch(named, check)

    def _find(self) -> JobCheckpoint | None:
        if not self._portable:
            return None
        with self._resources.database.read() as session:
            return checkpoints.find(session, self._job.id)

    def _fetch(self, named: JobCheckpoint, check: Check) -> None:
        draft, older = self._folder / "fetched", self._folder / attempt.OLDER
        try:
            for path, facts in named.files.items():
                check()
                fetch(self._resources, facts["key"], draft / path, facts["sha256"])
        except (NotFound, IntegrityError) as error:
            log.warning("checkpoint.unusable", error=str(error))
            shutil.rmtree(draft, ignore_errors=True)
            if older.is_dir():
                older.rename(self._checkpoint)
            return
        draft.rename(self._checkpoint)
        shutil.rmtree(older, ignore_errors=True)
        self._named = named.files
        self._stored = {mark: named.files[path] for path, mark in self._marks().items()}
        words = (
            f"This attempt goes on from the checkpoint of attempt {named.fence}, out of storage."
        )
        note = {"kind": EventKind.NOTE, "code": "checkpoint_fetched", "message": words}
        with self._resources.database.write() as session:
            leases.record(session, self._job.id, self._job.fence, [note])

    def look(self, relay: Check) -> None:
        """Begin to store what is new, unless the last time is not long ago or goes on.

        `relay` is called between the look and the storing: what the job's process has said before
        it saved a checkpoint must be in the history before the row names that checkpoint.
        """
        busy = self._thread is not None and self._thread.is_alive()
        if busy or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LOOK_SECONDS
        if found := self._linked():
            relay()
            self._begin(found)

    def _begin(self, marks: Marks) -> threading.Thread:
        self._thread = threading.Thread(
            target=self._store, args=(marks,), name=f"ship {self._job.id}", daemon=True
        )
        self._thread.start()
        return self._thread

    def finish(self, seconds: float) -> None:
        """Store what is new once more, as the attempt ends and another host may go on.

        What is not stored and named after so many seconds, at most `LAST_SECONDS`, is left.
        """
        until = time.monotonic() + min(seconds, LAST_SECONDS)
        if seconds <= 0:
            return
        if self._thread is not None:
            self._thread.join(until - time.monotonic())
            if self._thread.is_alive():
                return
        if found := self._linked():
            self._begin(found).join(until - time.monotonic())

    def forget(self) -> None:
        """Remove the checkpoints of a job that has succeeded; garbage collection takes the rest."""
        if not self._portable or (self._thread is None and self._job.fence == 1):
            return  # Nobody has stored any.
        try:
            with self._resources.database.write() as session:
                checkpoints.forget(session, self._job.id)
            garbage.discard(self._resources, prefixes=[f"{checkpoints.FOLDER}/{self._job.id}"])
        except AWAY as error:
            log.warning("checkpoint.kept", error=str(error))

    def _linked(self) -> Marks:
        """Link the files of the checkpoint; return nothing where none is new, or while it changes.

        What is linked was all there at one moment: an attempt may go on from it.
        """
        if not self._portable or not self._checkpoint.is_dir():
            return {}
        try:
            marks = self._marks()
            if {path: self._stored.get(mark) for path, mark in marks.items()} == self._named:
                return {}
            shutil.rmtree(self._links, ignore_errors=True)
            attempt.link_tree(self._checkpoint, self._links)
            if self._marks() == marks:
                return marks
        except FileNotFoundError:
            pass  # It has been replaced since it was listed.
        except OSError as error:
            log.warning("checkpoint.unshipped", error=str(error))
            self._due = time.monotonic() + self._resources.settings.checkpoint_seconds
        shutil.rmtree(self._links, ignore_errors=True)
        return {}

    def _marks(self) -> Marks:
        """Return what tells each file from one that replaced it under the same name."""
        marks = {}
        for file in sorted(self._checkpoint.rglob("*")):
            path = file.relative_to(self._checkpoint)
            if file.is_file() and not any(part.startswith(".") for part in path.parts):
                facts = file.stat()
                marks[str(path)] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        return marks

    def _store(self, marks: Marks) -> None:
        began = time.monotonic()
        try:
            self._publish(marks)
        except leases.LostLease:
            log.info("checkpoint.late")  # The next attempt has begun, or the job has ended.
        except (*AWAY, OSError) as error:
            log.warning("checkpoint.unshipped", error=str(error))
        finally:
            shutil.rmtree(self._links, ignore_errors=True)
        took = time.monotonic() - began
        self._due = began + max(self._resources.settings.checkpoint_seconds, 2 * took)

    def _publish(self, marks: Marks) -> None:
        job, storage = self._job, self._resources.storage
        self._sets += 1
        prefix = checkpoints.prefix(job, self._sets)
        named: checkpoints.Files = {}
        for path, mark in marks.items():
            if mark not in self._stored:
                key, file = f"{prefix}/{path}", self._links / path
                digest = storage.put_hashed(key, file)
                self._stored[mark] = {"key": key, "sha256": digest, "size": file.stat().st_size}
                hit("storage.between_checkpoints")
            named[path] = self._stored[mark]
        with self._resources.database.write() as session:
            gone = checkpoints.name(session, job, named)
        self._named = named
        self._stored = {mark: named[path] for path, mark in marks.items()}
        garbage.discard(self._resources, sorted(gone))
