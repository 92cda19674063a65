"""Uploads that belong to a job until it has succeeded: one that failed can be tried again."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Float, and_, cast, func, select
from sqlalchemy.orm import Session

from core.store.row_access import EVERYONE
from core.store.tables import Job
from topwork.kinds import JobKind, JobState, Product

PREDICTING, IMPORTING = JobKind.making(Product.PREDICTIONS), (JobKind.IMPORT,)
KEY = Job.config["upload"].as_string()


def _unread(*kinds: JobKind) -> ColumnElement[bool]:
    return and_(Job.kind.in_(kinds), Job.state != JobState.SUCCEEDED)


def keys(session: Session, among: Collection[str] | None = None) -> set[str]:
    """Return the keys of all uploads that are to be read yet, or of those among the given ones."""
    wanted = select(KEY).where(_unread(*PREDICTING, *IMPORTING))
    if among is not None:
        wanted = wanted.where(KEY.in_(among))
    return {key for key in session.scalars(wanted) if key is not None}


def stored_bytes(session: Session, owner: str, kinds: Collection[JobKind]) -> int:
    """Return the bytes of an owner's uploads that jobs of these kinds are to read yet."""
    size = cast(Job.config["bytes"].as_string(), Float)
    total = select(func.sum(size)).where(Job.owner == owner, _unread(*kinds))
    return int(session.execute(total, execution_options=EVERYONE).scalar_one() or 0)
