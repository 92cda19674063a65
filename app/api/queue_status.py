"""What waits, and who is there to work on it."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.domain import workers as present
from core.store.db import db_now
from core.store.tables import Job
from core.system.settings import Settings


def queue(session: Session) -> dict[str, Any]:
    """Return counts by state and by kind, and the age of the job that has waited longest."""
    states = select(Job.state, func.count()).group_by(Job.state)
    waiting = (
        select(Job.kind, func.count(), db_now() - func.min(Job.created_at))
        .where(Job.state == "queued")
        .group_by(Job.kind)
    )
    rows = session.execute(waiting).all()
    ages = [float(row[2]) for row in rows]
    return {
        "object": "queue",
        "states": {row[0]: row[1] for row in session.execute(states)},
        "queued": {row[0]: row[1] for row in rows},
        "oldest_seconds": round(max(ages), 3) if ages else None,
    }


def workers(session: Session, settings: Settings) -> list[dict[str, Any]]:
    """Return each worker that has been seen lately or holds a job, with its jobs."""
    held = select(Job).where(Job.state == "running").order_by(Job.worker, Job.id)
    running: dict[str, list[dict[str, Any]]] = {}
    for job in session.scalars(held):
        entry = {"id": job.id, "kind": job.kind, "phase": job.phase, "progress": job.progress}
        running.setdefault(str(job.worker), []).append(entry)
    slots = {worker.id: worker.slots for worker in present.alive(session, settings)}
    return [
        {
            "id": owner,
            "object": "worker",
            "slots": slots.get(owner),
            "alive": owner in slots,
            "jobs": running.get(owner, []),
        }
        for owner in sorted(slots.keys() | running.keys())
    ]
