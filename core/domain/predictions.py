"""Batch predictions: jobs whose answers are stored under the job, and go with it."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.domain import events, job_uploads, leases
from core.domain.products import PLACES
from core.store.row_access import EVERYONE
from core.store.tables import Job
from topwork.errors import JobNotFound
from topwork.kinds import EventKind, JobKind, Product

KINDS = JobKind.making(Product.PREDICTIONS)
ANSWERS, EVALUATION = "predictions.jsonl", "evaluation.json"


def get(session: Session, job_id: str) -> Job:
    """Return a job of this kind or raise JobNotFound."""
    job = session.get(Job, job_id)
    if job is None or job.kind not in KINDS:
        raise JobNotFound(f"there is no batch prediction {job_id}")
    return job


def prefix(job: Job) -> str:
    """Return where the newest attempt has stored its answers, if it has any."""
    return PLACES[Product.PREDICTIONS].prefix(job)


def stored(session: Session, keys: list[str]) -> set[str]:
    """Return those of the keys of answers that belong to the newest attempt of a job."""
    ids = {key.split("/")[1] for key in keys}
    kept = {f"{prefix(job)}/" for job in session.scalars(select(Job).where(Job.id.in_(ids)))}
    return {key for key in keys if f"{key.rpartition('/')[0]}/" in kept}


def files(job: Job) -> dict[str, dict[str, Any]]:
    """Return name -> {sha256, size} of what is stored of a job's answers."""
    return _files(job.result)


def _files(result: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    return dict((result or {}).get("files", {}))


def location(job: Job, name: str) -> tuple[str, str] | None:
    """Return the key and the hash of a file of a job's answers, if it has that."""
    facts = files(job).get(name)
    return None if facts is None else (f"{prefix(job)}/{name}", str(facts["sha256"]))


def answered(session: Session) -> list[Job]:
    """Return the jobs that may have answers; `files` tells which they are."""
    return list(session.scalars(select(Job).where(Job.kind.in_(KINDS))))


def stored_bytes(session: Session, owner: str) -> int:
    """Return the bytes of an owner's answers, and of uploads that are to be read yet."""
    return job_uploads.stored_bytes(session, owner, KINDS) + _answers(session, owner)


def _answers(session: Session, owner: str) -> int:
    own = select(Job.result).where(Job.kind.in_(KINDS), Job.owner == owner)
    results = session.scalars(own, execution_options=EVERYONE)
    return sum(int(file["size"]) for result in results for file in _files(result).values())


def say_once(session: Session, job: Job, code: str, message: str) -> None:
    """Add a note to a running job's history, unless an earlier attempt did.

    Raises:
        LostLease: The job is no longer this worker's.
    """
    leases.held(session, job.id, job.fence)
    notes = events.of_kind(session, job.id, EventKind.NOTE)
    if all(note.data.get("code") != code for note in notes):
        note: dict[str, Any] = {"kind": EventKind.NOTE, "code": code, "message": message}
        leases.record(session, job.id, job.fence, [note])
