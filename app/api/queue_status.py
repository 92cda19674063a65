"""Queue status: the jobs that wait, and the workers that are there."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.api.views.rows import shaped
from core.domain import workers as present
from core.store.db import db_now
from core.store.tables import Job
from core.system.settings import Settings
from topwork import types
from topwork.kinds import JobState


def queue(session: Session) -> types.Queue:
    """Return counts by state and by kind, and the age of the job that has waited longest."""
    states = select(Job.state, func.count()).group_by(Job.state)
    waiting = (
        select(Job.kind, func.count(), db_now() - func.min(Job.created_at))
        .where(Job.state == JobState.QUEUED)
        .group_by(Job.kind)
    )
    rows = session.execute(waiting).all()
    ages = [float(row[2]) for row in rows]
    return types.Queue(
        states={row[0]: row[1] for row in session.execute(states)},
        queued={row[0]: row[1] for row in rows},
        oldest_seconds=round(max(ages), 3) if ages else None,
    )


def workers(session: Session, settings: Settings) -> list[types.Worker]:
    """Return each worker that has been seen lately or holds a job, with its jobs."""
    held = select(Job).where(Job.state == JobState.RUNNING).order_by(Job.worker, Job.id)
    running: dict[str, list[types.WorkerJob]] = {}
    for job in session.scalars(held):
        running.setdefault(str(job.worker), []).append(shaped(types.WorkerJob, job))
    slots = {worker.id: worker.slots for worker in present.alive(session, settings)}
    return [
        types.Worker(
            id=owner, slots=slots.get(owner), alive=owner in slots, jobs=running.get(owner, [])
        )
        for owner in sorted(slots.keys() | running.keys())
    ]
