"""The lease of one claimed job: a thread renews it, and tells when it is lost or unwanted."""

import threading
import time
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from core.domain import leases
from core.store.db import Database
from core.store.tables import Job
from core.system.settings import Settings
from worker.process.job_process import Process

POLL_SECONDS = 0.5  # How soon a request to cancel is noticed.
SAFE_PART = 2 / 3  # Of a lease: we stop for certain before another worker may start.
log = structlog.get_logger()


class Cancelled(Exception):
    """The user asked for this job to stop."""


class Claim:
    """A job that is ours while its lease is renewed; use as a context manager.

    All waiting on the database happens in a thread here, so a slow upload or a slow start never
    costs the lease. When renewals fail for two thirds of the lease the child is dead: its
    lifeline carries that time, and its guard needs nobody to obey it.

    Args:
        database: Where the job's row is.
        settings: Lease and heartbeat lengths.
        job: The row as claimed.
        claimed_at: Monotonic time just before the claim was made.
    """

    def __init__(self, database: Database, settings: Settings, job: Job, claimed_at: float) -> None:
        self.job_id, self.fence = job.id, job.fence
        self.cancelled = self.paused = False
        self._database, self._settings = database, settings
        self._renewed_at = claimed_at
        self._lost = False
        self._process: Process | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"claim {job.id}", daemon=True)

    def __enter__(self) -> Self:
        """Start renewing."""
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop renewing."""
        self.settled()

    def settled(self) -> None:
        """Stop renewing; the thread ends by itself if the database keeps it waiting."""
        self._done.set()

    @property
    def good_until(self) -> float:
        """Monotonic time until which nobody else can have this job."""
        return self._renewed_at + SAFE_PART * self._settings.lease_seconds

    @property
    def lost(self) -> bool:
        """Whether another worker may have the job now."""
        return self._lost or time.monotonic() >= self.good_until

    def check_lost(self) -> None:
        """Raise LostLease if another worker may have the job now."""
        if self.lost:
            raise leases.LostLease(self.job_id)

    def check(self) -> None:
        """Raise if there is a reason to go no further.

        Raises:
            leases.LostLease: Another worker may have the job now.
            Cancelled: The user asked to stop.
        """
        self.check_lost()
        if self.cancelled:
            raise Cancelled(self.job_id)

    def keeps(self, process: Process) -> None:
        """Extend this process's life with each renewal from now on."""
        self._process = process
        process.extend(self.good_until)

    def _keep(self) -> None:
        poll = min(POLL_SECONDS, self._settings.heartbeat_seconds)
        while not self._done.wait(poll) and not self._lost:
            due = time.monotonic() - self._renewed_at >= self._settings.heartbeat_seconds
            try:
                self._renew() if due else self._look()
            except leases.LostLease:
                self._lost = True  # Or settled a moment ago: whoever holds the claim knows.
            except SQLAlchemyError as error:
                log.warning("lease.unrenewed", job_id=self.job_id, error=str(error))

    def _renew(self) -> None:
        asked_at = time.monotonic()
        with self._database.write() as session:
            lease = leases.renew(session, self.job_id, self.fence, self._settings.lease_seconds)
        self._renewed_at = asked_at
        self._obey(lease)
        if self._process is not None:
            self._process.extend(self.good_until)

    def _look(self) -> None:
        with self._database.read() as session:
            self._obey(leases.look(session, self.job_id, self.fence))

    def _obey(self, lease: leases.Lease) -> None:
        self.cancelled, self.paused = lease.cancel_requested, lease.pause_requested
