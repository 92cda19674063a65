"""Portable checkpoints: what an attempt keeps also goes to storage, for workers on other hosts.

The worker's thread of a job links the files, a thread beside it stores them, and then a row names
them: the last whole set wins (`core.domain.checkpoints`). What no row names is garbage.
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
from core.store.tables import Job
from core.system.failpoints import hit
from topwork.errors import IntegrityError, NotFound
from topwork.kinds import EventKind
from worker import attempt
from worker.kinds.kind import Check, fetch
from worker.outcomes import AWAY

LOOK_SECONDS = 1.0  # Between two looks for something new.
LAST_SECONDS = 20.0  # For the last set of an attempt; a worker that leaves has no more.
log = structlog.get_logger()
Identity = tuple[int, int, int]


def is_portable(resources: Resources) -> bool:
    """Tell whether other hosts may reach the storage: not where it lies within the data folder."""
    root = resources.storage.root
    return root is None or not root.is_relative_to(resources.settings.data_dir)


class Shipper:
    """Stores the checkpoints of one attempt; used by the thread that watches its process.

    Args:
        resources: Open handles.
        job: The row as claimed.
        folder: The attempt's.
    """

    def __init__(self, resources: Resources, job: Job, folder: Path) -> None:
        self._resources, self._job, self._folder = resources, job, folder
        self._portable = is_portable(resources)
        self._named: dict[str, dict[str, Any]] = {}  # What the row names, by path.
        self._stored: dict[Identity, dict[str, Any]] = {}
        self._sets = 0
        self._due = 0.0
        self._thread: threading.Thread | None = None

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

    def _begin(self, files: dict[str, Path]) -> threading.Thread:
        self._thread = threading.Thread(
            target=self._store, args=(files,), name=f"ship {self._job.id}", daemon=True
        )
        self._thread.start()
        return self._thread

    def finish(self) -> None:
        """Store what is new once more, as the attempt ends and another host may go on."""
        until = time.monotonic() + LAST_SECONDS
        if self._thread is not None:
            self._thread.join(LAST_SECONDS)
            if self._thread.is_alive():
                return
        if found := self._linked():
            self._begin(found).join(until - time.monotonic())

    def _linked(self) -> dict[str, Path]:
        """Return links to the files of the checkpoint by path; empty where nothing is new."""
        checkpoint, links = self._folder / "checkpoint", self._folder / "shipping"
        if not self._portable or not checkpoint.is_dir():
            return {}
        shutil.rmtree(links, ignore_errors=True)
        attempt.link_tree(checkpoint, links)
        files = {str(p.relative_to(links)): p for p in sorted(links.rglob("*")) if p.is_file()}
        known = {path: self._stored.get(_identity(file)) for path, file in files.items()}
        return {} if known == self._named else files

    def _store(self, files: dict[str, Path]) -> None:
        began = time.monotonic()
        try:
            self._publish(files)
        except leases.LostLease:
            log.info("checkpoint.late")  # The next attempt has begun, or the job has ended.
        except (*AWAY, OSError) as error:
            log.warning("checkpoint.unshipped", error=str(error))
        took = time.monotonic() - began
        self._due = began + max(self._resources.settings.checkpoint_seconds, 2 * took)

    def _publish(self, files: dict[str, Path]) -> None:
        job, storage = self._job, self._resources.storage
        self._sets += 1
        prefix = checkpoints.prefix(job, self._sets)
        named: checkpoints.Files = {}
        for path, file in files.items():
            mark = _identity(file)
            if mark not in self._stored:
                key = f"{prefix}/{path}"
                digest = storage.put_hashed(key, file)
                self._stored[mark] = {"key": key, "sha256": digest, "size": file.stat().st_size}
                hit("storage.between_checkpoints")
            named[path] = self._stored[mark]
        with self._resources.database.write() as session:
            gone = checkpoints.name(session, job, named)
        self._named = named
        self._stored = {_identity(file): named[path] for path, file in files.items()}
        garbage.discard(self._resources, sorted(gone))


def bring(resources: Resources, job: Job, folder: Path, local: int, check: Check) -> None:
    """Fetch the checkpoint that the row names, where this host has none that is as new.

    Args:
        resources: Open handles.
        job: The row as claimed.
        folder: The attempt's, in which an older checkpoint may lie.
        local: The fence of the attempt that left that one here; 0 without any.
        check: Raises where there is a reason to go no further.
    """
    with resources.database.read() as session:
        named = checkpoints.find(session, job.id)
    if named is None or local >= named.fence or not is_portable(resources):
        return
    draft, checkpoint = folder / "fetched", folder / "checkpoint"
    try:
        for path, facts in named.files.items():
            check()
            fetch(resources, facts["key"], draft / path, facts["sha256"])
    except (NotFound, IntegrityError) as error:
        log.warning("checkpoint.unusable", error=str(error))
        shutil.rmtree(draft, ignore_errors=True)
        return
    shutil.rmtree(checkpoint, ignore_errors=True)
    draft.rename(checkpoint)
    words = f"This attempt goes on from the checkpoint of attempt {named.fence}, out of storage."
    note = {"kind": EventKind.NOTE, "code": "checkpoint_fetched", "message": words}
    with resources.database.write() as session:
        leases.record(session, job.id, job.fence, [note])


def forget(resources: Resources, job: Job) -> None:
    """Remove the checkpoints of a job that has succeeded; what is left garbage collection takes."""
    if is_portable(resources):
        try:
            with resources.database.write() as session:
                checkpoints.forget(session, job.id)
            garbage.discard(resources, prefixes=[f"{checkpoints.FOLDER}/{job.id}"])
        except AWAY as error:
            log.warning("checkpoint.kept", error=str(error))


def _identity(file: Path) -> Identity:
    """Return what tells a file from one that replaced it under the same name."""
    facts = file.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
