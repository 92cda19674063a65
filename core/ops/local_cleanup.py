"""Clean up this machine's disk: attempts, copies of datasets and caches that no job needs."""

import shutil
import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.domain.checkpoints import KEEP_SECONDS
from core.store.resources import Resources
from core.store.tables import DatasetVersion, Job
from core.system.cache_dir import trim
from topwork.kinds import JobState


def tidy(resources: Resources) -> None:
    """Remove attempts of ended or deleted jobs, unused dataset copies, and arrays beyond budget."""
    trim(resources.settings.data_dir / "cache" / "arrays", resources.settings.cache_bytes)
    for path in found(resources):
        shutil.rmtree(path, ignore_errors=True)


def found(resources: Resources, grace: float = 0.0) -> list[Path]:
    """Return what is to be removed and has been so for `grace` seconds at least."""
    data = resources.settings.data_dir
    with resources.database.read() as session:
        paths = [p for p in _entries(data / "runs") if _is_over(session, p)]
        paths += [p for p in _entries(data / "cache" / "datasets") if _unused(session, p)]
    return [path for path in paths if _age(path) >= grace]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _is_over(session: Session, attempts: Path) -> bool:
    job = session.get(Job, attempts.name)
    if job is None or job.state == JobState.SUCCEEDED:
        return True
    # Not the folder's age: the last attempt may have begun more than a week before its end.
    return job.finished_at is not None and time.time() - job.finished_at > KEEP_SECONDS


def _unused(session: Session, copy: Path) -> bool:
    if copy.name.startswith("."):  # A draft whose worker died.
        return _age(copy) > KEEP_SECONDS
    version = select(DatasetVersion).where(DatasetVersion.digest == copy.name).limit(1)
    row = session.scalars(version).first()
    if row is None:
        return True
    working = select(Job.id).where(Job.dataset_id == row.dataset_id, Job.state == JobState.RUNNING)
    return _age(copy) > KEEP_SECONDS and session.execute(working.limit(1)).first() is None


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
