"""Restore a backup made by `core.ops.backup` into an empty service."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from alembic.util.exc import CommandError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.domain import job_states
from core.ops import garbage
from core.ops.backup import FACTS, FORMAT, OBJECTS, ROWS, copy_rows
from core.store.db import Database
from core.store.migrate import upgrade
from core.store.object_store import Storage
from core.store.resources import open_resources
from core.store.tables import ApiKey, AuditEntry, Dataset, Job, Model
from core.system.addresses import sqlite_url
from core.system.atomic_files import sha256
from core.system.settings import Settings
from topwork.errors import IntegrityError, StateConflict
from topwork.kinds import TERMINAL, JobState

ELSEWHERE = "Choose an empty place with --data-dir or the TOPWORK_* variables."


def restore(source: Path, settings: Settings) -> dict[str, Any]:
    """Fill the empty service of these settings from a backup; return the backup's facts.

    Jobs that ran when it was made are queued again, and start over: checkpoints are not part of it.
    Those that were being cancelled are cancelled.

    Raises:
        StateConflict: The service is not empty, or the backup is of a later version.
        IntegrityError: The backup is incomplete or damaged; the service is still empty then.
    """
    facts = _facts(source)
    _check_objects(source, facts)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade(settings.database_url)
    with open_resources(settings) as resources:
        with resources.database.read() as session:
            _check_empty(session, resources.storage)
        with tempfile.TemporaryDirectory(dir=settings.data_dir) as folder:
            rows = Path(shutil.copy(source / ROWS, folder))
            try:
                upgrade(sqlite_url(rows))
            except CommandError:
                message = "this backup was made by a later version of Topwork"
                raise StateConflict(message, hint="Install that version first.") from None
            _put_objects(resources.storage, source, facts)
            copy = Database(sqlite_url(rows))
            try:
                with copy.snapshot() as read, resources.database.write() as session:
                    copy_rows(read.connection(), session.connection())
                    _begin_again(session)
            finally:
                copy.close()
    return facts


def _facts(source: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((source / FACTS).read_bytes())
    except (OSError, ValueError):
        raise IntegrityError(f"{source} is no complete backup: it has no {FACTS}") from None
    if facts.get("format") != FORMAT:
        raise StateConflict(f"backups of the format {facts.get('format')} cannot be read")
    return facts


def _check_objects(source: Path, facts: dict[str, Any]) -> None:
    for key, wanted in facts["objects"].items():
        path = source / OBJECTS / key
        if not path.is_file() or sha256(path) != wanted["sha256"]:
            raise IntegrityError(f"{key} is missing in the backup, or damaged")


def _put_objects(storage: Storage, source: Path, facts: dict[str, Any]) -> None:
    """Store every object, or none where one is not any more what it was a moment ago."""
    stored = []
    for key, wanted in facts["objects"].items():
        stored.append(key)
        if storage.put_hashed(key, source / OBJECTS / key) != wanted["sha256"]:
            storage.delete_all(stored)
            raise IntegrityError(f"{key} was changed in the backup while it was restored")


def _check_empty(session: Session, storage: Storage) -> None:
    for table in (Job, Dataset, Model, ApiKey, AuditEntry):
        if session.execute(select(func.count()).select_from(table)).scalar_one():
            raise StateConflict("the database is not empty", hint=ELSEWHERE)
    if any(storage.list(place) for place in garbage.RULES):
        raise StateConflict("the object storage is not empty", hint=ELSEWHERE)


def _begin_again(session: Session) -> None:
    """Queue what was running; nothing has a checkpoint here."""
    for job in session.scalars(select(Job).where(Job.state.not_in(TERMINAL))).all():
        job.last_step, job.progress = 0, 0.0
        if job.cancel_requested_at is not None:
            job_states.finish(session, job, JobState.CANCELLED)
        elif job.state == JobState.RUNNING:
            job.pause_requested_at = None
            job_states.move(session, job, JobState.QUEUED, reason="it was restored from a backup")
