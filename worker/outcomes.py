"""Outcomes of an attempt, and what each writes into the job's row.

What ends an attempt            what becomes of the job
done, published                 succeeded, in the commit that publishes
error.json, a known error       failed with that error
cancel asked                    cancelled
SIGTERM to the worker           queued; the next attempt goes on from the checkpoint
pause asked                     paused, once the checkpoint is saved; not counted
storage or database away        queued, not counted; so is a database without room
disk full                       queued until there is room, later each time; never failed
out of memory                   failed; another attempt would end the same way
an unexpected exception         queued; failed when the same one ends the next attempt as well
crash, hang, broken contract    queued, or failed as poison after attempts without progress
SIGKILL from outside            queued, later each time; failed as worker_lost after many
the worker's own trouble        the same
lease lost                      nothing is written: the job is another worker's
"""

import structlog
from sqlalchemy.orm import Session

from core.domain import leases
from core.store import db
from core.store.object_store import StorageUnavailable
from core.store.tables import Job
from core.system import disk
from core.system.faults import Fault
from core.system.settings import Settings
from topwork.errors import DiskFull, TopworkError

AWAY = (StorageUnavailable, *db.AWAY)
UNREACHED = "storage or database could not be reached"
FULL = "the disk of storage or database is full"
log = structlog.get_logger()


class Drained(Exception):
    """This worker is leaving, or the job is to rest; it is handed back with its checkpoint."""


class Crashed(Exception):
    """The child broke off, hung, or broke the contract of RUN_DIR.

    Args:
        words: How, for the job's reason.
        fault: The exception that ended it, where one did.
    """

    def __init__(self, words: str, fault: Fault | None = None) -> None:
        super().__init__(words)
        self.fault = fault


class Lost(Exception):
    """Somebody else ended the child; the argument says how."""


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
        words = DiskFull().message
        leases.starved(session, job.id, job.fence, words, settings.sweep_seconds)
    elif isinstance(error, TopworkError):  # Another attempt would meet it again.
        leases.fail(session, job.id, job.fence, error.to_dict())
    elif isinstance(error, Crashed):
        most = settings.max_attempts
        leases.crashed(session, job.id, job.fence, str(error), most, error.fault)
    elif isinstance(error, Lost):
        leases.lost(session, job.id, job.fence, str(error), settings.max_losses)
    else:
        log.error("worker.bug", exc_info=error)
        met = Fault.of(error)
        fault = None if met.refused else met
        words = f"its worker met {met}"
        leases.lost(session, job.id, job.fence, words, settings.max_losses, fault)


def is_disk_full(error: Exception) -> bool:
    """Tell whether an attempt ended because a disk or a quota is full."""
    return disk.is_full(error) or isinstance(error, DiskFull)
