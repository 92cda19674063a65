"""How an attempt can end, and what each end writes into the job's row.

What ends an attempt            what becomes of the job
done, published                 succeeded, in the commit that publishes
error.json, a known error       failed with that error
cancel asked                    cancelled
SIGTERM to the worker           queued; the next attempt goes on from the checkpoint
pause asked                     paused, once the checkpoint is saved; not counted
storage or database away        queued, not counted; so is a database without room
disk full                       queued until there is room; failed after tries without progress
out of memory                   failed; another attempt would end the same way
crash, hang, broken contract    queued, or failed as poison after attempts without progress
lease lost                      nothing is written: the job is another worker's
"""

import errno

import structlog
from sqlalchemy.orm import Session

from core.domain import leases
from core.store import db
from core.store.object_store import StorageUnavailable
from core.store.tables import Job
from core.system.settings import Settings
from topwork.errors import DiskFull, TopworkError

AWAY = (StorageUnavailable, *db.AWAY)
UNREACHED = "storage or database could not be reached"
FULL = "the disk of storage or database is full"
log = structlog.get_logger()


class Drained(Exception):
    """This worker is leaving, or the job is to rest; it is handed back with its checkpoint."""


class Crashed(Exception):
    """The child broke off, hung, or broke the contract of RUN_DIR."""


def write(
    session: Session, job: Job, error: Exception, settings: Settings, *, cancelled: bool
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
        away = FULL if db.is_full(error) else UNREACHED
        leases.release(session, job.id, job.fence, away)
    elif is_disk_full(error):
        full, most = DiskFull().to_dict(), settings.max_attempts
        leases.starved(session, job.id, job.fence, full, most, settings.sweep_seconds)
    elif isinstance(error, TopworkError):  # Another attempt would meet it again.
        leases.fail(session, job.id, job.fence, error.to_dict())
    else:
        if not isinstance(error, Crashed):
            log.error("worker.bug", exc_info=error)
        problem = TopworkError(str(error) or repr(error)).to_dict()
        leases.crashed(session, job.id, job.fence, problem, settings.max_attempts)


def is_disk_full(error: Exception) -> bool:
    """Tell whether an attempt ended because a disk or a quota is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, DiskFull)
