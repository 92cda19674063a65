"""Lanes of the queue: each worker has slots for short jobs besides those for long ones.

Called by workers when they look for a job, and by the api when it tells what a job waits for.
"""

from sqlalchemy import ColumnElement

from core.store.tables import Job
from topwork.kinds import JobKind, Lane

SHORT_SLOTS = 10
"""Short jobs that one worker runs at once: reading some uploads does not delay the next one."""
SHORT = tuple(kind for kind in JobKind if kind.lane is Lane.SHORT)


def of(job: Job) -> Lane:
    """Return the lane of a job; a kind that this version does not know is long."""
    return Lane.SHORT if job.kind in SHORT else Lane.LONG


def holds(lane: Lane) -> ColumnElement[bool]:
    """Return the condition that a job is of this lane."""
    return Job.kind.in_(SHORT) if lane is Lane.SHORT else Job.kind.not_in(SHORT)
