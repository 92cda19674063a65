"""How an attempt can end, and what each end writes into the job's row.

What ends an attempt            what becomes of the job
done, published                 succeeded, in the commit that publishes
error.json, a known error       failed with that error
cancel asked                    cancelled
SIGTERM to the worker           queued; the next attempt goes on from the checkpoint
storage or database away        queued, not counted
out of memory                   failed; another attempt would end the same way
crash, hang, broken contract    queued, or failed as poison after attempts without progress
lease lost                      nothing is written: the job is another worker's
"""

import errno
from typing import Any

import structlog
from sqlalchemy.orm import Session

from core import db, leases
from core.errors import DiskFull, TopworkError
from core.storage import StorageUnavailable
from core.tables import Job

AWAY = (StorageUnavailable, *db.AWAY)
log = structlog.get_logger()


class Drained(Exception):
    """This worker is leaving; the job goes back to the queue."""


class Crashed(Exception):
    """The child broke off, hung, or broke the contract of RUN_DIR."""


class Refused(Exception):
    """The child says in error.json, this one's argument, why its job cannot succeed."""


def write(
    session: Session, job: Job, error: Exception, *, cancelled: bool, max_attempts: int
) -> None:
    """Bring the job's row to where this end of its attempt leaves it.

    Raises:
        leases.LostLease: The job is no longer this worker's.
    """
    if cancelled:
        leases.cancelled(session, job.id, job.fence)
    elif isinstance(error, Drained):
        leases.release(session, job.id, job.fence, "its worker was stopped")
    elif isinstance(error, AWAY):
        leases.release(session, job.id, job.fence, "storage or database could not be reached")
    elif (refusal := refusal_of(error)) is not None:
        leases.fail(session, job.id, job.fence, refusal)
    else:
        if not isinstance(error, Crashed):
            log.error("worker.bug", exc_info=error)
        problem = TopworkError(str(error) or repr(error)).to_dict()
        leases.crashed(session, job.id, job.fence, problem, max_attempts)


def refusal_of(error: Exception) -> dict[str, Any] | None:
    """Return `{code, message, param, hint}` of an error that another attempt would meet again."""
    if isinstance(error, Refused):
        refusal: dict[str, Any] = error.args[0]
        return refusal
    if isinstance(error, TopworkError):
        return error.to_dict()
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DiskFull().to_dict()
    return None
