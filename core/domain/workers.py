"""The list of workers on all machines, busy or idle: each reports with every sweep."""

from collections.abc import Sequence

from sqlalchemy import delete, func, literal, select
from sqlalchemy.orm import Session

from core.domain import lanes
from core.store.db import db_now
from core.store.tables import Worker
from core.system.settings import Settings
from topwork.kinds import Lane

LATE = 3  # Sweeps after which a worker that has not been seen counts as away.
FORGET_SECONDS = 86400.0
MINUTE = 60.0


def seen(session: Session, owner: str, slots: int) -> None:
    """Record that a worker is there, and forget those that have long been away."""
    worker = session.get(Worker, owner)
    if worker is None:
        session.add(Worker(id=owner, slots=slots))
    else:
        worker.seen_at = db_now()
    session.execute(delete(Worker).where(Worker.seen_at < db_now() - FORGET_SECONDS))


def gone(session: Session, owner: str) -> None:
    """Forget a worker that has left or died."""
    session.execute(delete(Worker).where(Worker.id == owner))


def alive(session: Session, settings: Settings) -> Sequence[Worker]:
    """Return the workers that have been seen lately, by name."""
    lately = Worker.seen_at > db_now() - LATE * settings.sweep_seconds
    return session.scalars(select(Worker).where(lately).order_by(Worker.id)).all()


def slots(session: Session, lane: Lane) -> int:
    """Return how many jobs of a lane can run at once on the workers of the last minute."""
    each = literal(lanes.SHORT_SLOTS) if lane is Lane.SHORT else Worker.slots
    lately = select(func.coalesce(func.sum(each), 0)).where(Worker.seen_at > db_now() - MINUTE)
    return int(session.execute(lately).scalar_one())
