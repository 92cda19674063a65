"""A job's append-only history: written with the change it describes, read by number."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.tables import Job, JobEvent


def append(session: Session, job: Job, kind: str, data: dict[str, Any]) -> JobEvent:
    """Add the next event of a job; the caller holds the job's row for writing."""
    job.last_seq += 1
    event = JobEvent(job_id=job.id, seq=job.last_seq, fence=job.fence, kind=kind, data=data)
    session.add(event)
    return event


def after(session: Session, job_id: str, seq: int = 0, limit: int = 1000) -> list[JobEvent]:
    """Return the events numbered above `seq`, oldest first."""
    newer = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    return list(session.scalars(newer.order_by(JobEvent.seq).limit(limit)))


def of_kind(session: Session, job_id: str, kind: str) -> list[JobEvent]:
    """Return a job's events of one kind, oldest first."""
    same = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.kind == kind)
    return list(session.scalars(same.order_by(JobEvent.seq)))
