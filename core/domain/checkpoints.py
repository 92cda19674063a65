"""Checkpoints in storage, from which another host goes on with a job: one set of files a job."""

from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from core.domain import leases
from core.store.db import db_now
from core.store.tables import Job, JobCheckpoint
from topwork.kinds import JobState

FOLDER = "runs"  # Of the keys: FOLDER/JOB/FENCE/SET/PATH.
KEEP_SECONDS = 7 * 86400.0  # So long can an ended job be retried from its checkpoint.
Files = dict[str, dict[str, Any]]


def prefix(job: Job, number: int) -> str:
    """Return where an attempt stores the new files of its set of this number, counted from 1."""
    return f"{FOLDER}/{job.id}/{job.fence}/{number}"


def find(session: Session, job_id: str) -> JobCheckpoint | None:
    """Return the newest whole set of a job."""
    return session.get(JobCheckpoint, job_id)


def name(session: Session, job: Job, files: Files) -> set[str]:
    """Make stored files, path -> {key, sha256, size}, the job's set; return keys that it replaces.

    Raises:
        LostLease: The job is no longer this worker's.
    """
    leases.held(session, job.id, job.fence)
    row = find(session, job.id)
    before = keys_of(row)
    if row is None:
        session.add(JobCheckpoint(job_id=job.id, fence=job.fence, files=files))
    else:
        row.fence, row.files = job.fence, files
    return before - {facts["key"] for facts in files.values()}


def keys_of(row: JobCheckpoint | None) -> set[str]:
    """Return the keys of a set's files."""
    return {facts["key"] for facts in row.files.values()} if row else set()


def forget(session: Session, job_id: str) -> None:
    """Forget the set of a job that needs none any more; its files are garbage then."""
    session.execute(delete(JobCheckpoint).where(JobCheckpoint.job_id == job_id))


def kept(session: Session, keys: list[str]) -> set[str]:
    """Return those of the keys that a job may still need.

    Of a job that runs, these are also what its attempt has stored since it named its last set.
    """
    ids = {key.split("/")[1] for key in keys}
    lately = or_(Job.finished_at.is_(None), Job.finished_at > db_now() - KEEP_SECONDS)
    found: set[str] = set()
    needing = select(Job).where(Job.id.in_(ids), Job.state != JobState.SUCCEEDED, lately)
    for job in session.scalars(needing):
        named = keys_of(find(session, job.id))
        found |= named
        if job.state == JobState.RUNNING:
            current = prefix(job, 0).removesuffix("0")
            mine = {key for key in keys if key.startswith(current)}
            newest = max((_number(key) for key in named if key.startswith(current)), default=0)
            found |= {key for key in mine if _number(key) > newest}
    return found.intersection(keys)


def _number(key: str) -> int:
    return int(key.split("/")[3])
