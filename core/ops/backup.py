"""Backup of a live service: its rows at one moment, and every object to which they refer.

`TARGET/topwork.db` is an SQLite file with the newest schema, whatever database the service runs on;
`TARGET/objects/KEY` are copies of the objects, which share blocks where the file system can do so;
`TARGET/backup.json` lists them with size and SHA-256. Only its user can read it. It is built beside
its place and renamed, so it is there complete or not at all. Nothing waits for it: rows are read in
one snapshot, objects never change, and what is deleted meanwhile goes later.
"""

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.orm import Session

from core.domain import job_uploads, predictions
from core.ops import garbage
from core.store.db import Database
from core.store.migrate import upgrade
from core.store.resources import Resources
from core.store.tables import Dataset, DatasetVersion, Job, ModelExport, ModelVersion, Row
from core.system.addresses import sqlite_url
from core.system.atomic_files import make_folder, sha256, sync, write_atomically
from core.system.command_names import command
from topwork.errors import IntegrityError, NotFound, StateConflict

FORMAT = 1
ROWS, OBJECTS, FACTS = "topwork.db", "objects", "backup.json"
# Of a running service, not of what it keeps: bytes of these lie elsewhere, or mean nothing later.
PASSING = ("worker", "chore", "partial_upload", "job_checkpoint")
TRIES = 3
CHUNK = 500


class _Vanished(Exception):
    """An object went with its row, although it was asked to stay: another backup has ended."""


def save(resources: Resources, target: Path) -> dict[str, Any]:
    """Copy a service, running or not, into a folder that does not exist yet; return its facts.

    Raises:
        StateConflict: The folder is there and not empty.
        IntegrityError: An object is damaged or missing in the service itself.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StateConflict(f"{target} is there already", hint="Name a new or an empty folder.")
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    make_folder(draft)  # Hashes of keys and the audit log are in it.
    (draft / OBJECTS).mkdir()
    try:
        with garbage.paused(resources.database) as prolong:
            facts = _save(resources, draft, prolong)
        if target.exists():
            target.rmdir()
        draft.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return facts


def _save(resources: Resources, draft: Path, prolong: Callable[[], None]) -> dict[str, Any]:
    for left in reversed(range(TRIES)):
        try:
            rows = _save_rows(resources, draft / ROWS)
            objects = _save_objects(resources, draft, prolong)
        except _Vanished as gone:
            if not left:
                message = f"objects were deleted meanwhile, {TRIES} times: {gone}"
                raise StateConflict(message, hint="Try again later.") from None
        else:
            with contextlib.closing(sqlite3.connect(draft / ROWS)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")  # One file, no log beside it.
            facts = {
                "format": FORMAT,
                "topwork": version_of("topwork"),
                "created_at": time.time(),
                "rows": rows,
                "objects": objects,
            }
            write_atomically(draft / FACTS, json.dumps(facts, indent=1).encode())
            return facts
    raise AssertionError  # pragma: no cover - the loop returns or raises.


def _save_rows(resources: Resources, path: Path) -> dict[str, int]:
    path.unlink(missing_ok=True)
    upgrade(sqlite_url(path))
    copy = Database(sqlite_url(path))
    try:
        with resources.database.snapshot() as session, copy.write() as target:
            counts = copy_rows(session.connection(), target.connection())
    finally:
        copy.close()
    return counts


def copy_rows(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every row, referred ones first; return how many of each table.

    The target has no rows but those with which migrations begin, and these are replaced.
    """
    counts = {}
    for table in Row.metadata.sorted_tables:
        if table.name in PASSING:
            continue
        target.execute(delete(table))
        counts[table.name] = 0
        found = source.execution_options(yield_per=CHUNK).execute(select(table))
        for part in found.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in part])
            counts[table.name] += len(part)
    return counts


def _save_objects(resources: Resources, draft: Path, prolong: Callable[[], None]) -> dict[str, Any]:
    copy = Database(sqlite_url(draft / ROWS))
    objects = {}
    try:
        with copy.read() as session:
            for key, digest in _wanted(resources, session, draft / OBJECTS):
                path = draft / OBJECTS / key
                found = sha256(path) if path.exists() else _fetch(resources, key, path)
                if digest is not None and found != digest:
                    raise IntegrityError(f"{key} does not match its recorded hash")
                objects[key] = {"sha256": found, "size": path.stat().st_size}
                prolong()
    finally:
        copy.close()
    return objects


def _fetch(resources: Resources, key: str, path: Path) -> str:
    try:
        return resources.storage.fetch(key, path)
    except NotFound:
        with resources.database.read() as session:
            kept = garbage.referred(session, [key])
        if key in kept:
            check = command("doctor", "--deep", data_dir=resources.settings.data_dir)
            hint = f"Run {check}; what is damaged there cannot be backed up."
            raise IntegrityError(f"{key} is missing in storage", hint=hint) from None
        raise _Vanished(key) from None


def _wanted(
    resources: Resources, session: Session, objects: Path
) -> Iterator[tuple[str, str | None]]:
    """Yield the key of each object that the copied rows refer to, with its hash where known.

    What it has yielded is in the folder `objects` when it goes on.
    """
    made: ModelVersion | ModelExport
    for made in [*session.scalars(select(ModelVersion)), *session.scalars(select(ModelExport))]:
        yield f"{made.prefix}/manifest.json", None
        for name, facts in made.files.items():
            yield f"{made.prefix}/{name}", facts["sha256"]
    shards: set[str] = set()
    for version in session.scalars(select(DatasetVersion)):
        manifest = f"{version.prefix}/manifest.jsonl"
        yield manifest, version.digest
        beside = set(resources.storage.list(version.prefix)) - {manifest}
        yield from ((key, None) for key in sorted(beside))
        shards |= garbage.shards_in((objects / manifest).read_bytes())
    yield from ((f"shards/{shard}.tar", shard) for shard in sorted(shards))
    uploads = select(Dataset.upload).where(Dataset.upload.is_not(None))
    yield from ((str(key), None) for key in session.scalars(uploads))
    for job in predictions.answered(session):
        for name, facts in predictions.files(job).items():
            yield f"{predictions.prefix(job)}/{name}", facts["sha256"]
    yield from ((key, None) for key in sorted(job_uploads.keys(session)))
    logs = {f"logs/{job}.txt" for job in session.scalars(select(Job.id))}
    yield from ((key, None) for key in sorted(logs & set(resources.storage.list("logs"))))
