"""Run jobs: claim, stage, start the child, relay what it says, publish what it made."""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from core.domain import leases
from core.domain.lanes import SHORT_SLOTS
from core.store import db
from core.store.object_store import StorageUnavailable
from core.store.resources import Resources
from core.store.tables import Job
from core.system import faults
from core.system.failpoints import hit
from core.system.machine import cores, memory, tells_of_no_memory
from core.system.run_dir import no_memory
from topwork.errors import DiskFull, OutOfMemory, TopworkError, from_dict
from topwork.kinds import Lack, Lane, Phase
from worker import attempt, disk_check, outcomes, portable_checkpoint
from worker.event_relay import Relay
from worker.kinds.kind import Work
from worker.kinds.registry import WORKS
from worker.lease_keeper import Claim
from worker.outcomes import AWAY, Crashed, Drained, Lost
from worker.process.job_process import Ending, Exit, Process
from worker.process.prefork import WarmStart

TICK = 0.25  # Seconds between looks at a child's events.
DRAIN_GRACE = 20.0  # Seconds a child has for its checkpoint when the worker is told to leave.
GRACE = DRAIN_GRACE + portable_checkpoint.LAST_SECONDS  # Seconds to hand back what runs.
PAUSE = 5.0  # Seconds before the next claim after storage or database failed.
LAST_WORDS = 300  # Characters of a crashed child's log that go into the job's reason.
WARM_BYTES = 2 << 30  # With less memory, what a warm process holds is the job's before its speed.
log = structlog.get_logger()


class Runner:
    """Runs jobs, each in its caller's thread, and only so many of each lane at a time.

    Args:
        resources: Open handles; shared by all threads.
        slots: Long jobs at once; there are `SHORT_SLOTS` for short ones besides.
        works: What to do for each kind of job.
        grace: Seconds to save and store checkpoints once it drains; after that, each job is handed
            back at once, to go on from what is stored.
    """

    def __init__(
        self,
        resources: Resources,
        slots: int,
        works: Mapping[str, Work] = WORKS,
        grace: float = GRACE,
    ) -> None:
        self.resources, self.slots, self.works, self.grace = resources, slots, works, grace
        self._leave_at = float("inf")  # Monotonic.
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.draining = threading.Event()
        self.most = slots + SHORT_SLOTS  # Jobs at once of all lanes.
        self._free = {
            Lane.SHORT: threading.Semaphore(SHORT_SLOTS),
            Lane.LONG: threading.Semaphore(slots),
        }
        self._next_look: dict[str, float] = {}  # Of jobs without room here: the monotonic time.
        self._threads = max(1, cores() // slots)
        heavy = {work.module for work in works.values() if work.warm}
        wanted = heavy if resources.settings.warm_start and memory() >= WARM_BYTES else ()
        self.warm = WarmStart(wanted, self._threads)

    def drain(self) -> None:
        """Begin no job, and hand back what runs; safe in a signal handler."""
        if not self.draining.is_set():
            self._leave_at = time.monotonic() + self.grace
        self.draining.set()

    @property
    def _left(self) -> float:
        """Seconds until every job is handed back whatever it has stored."""
        return max(0.0, self._leave_at - time.monotonic())

    def work(self) -> None:
        """Run queued jobs one after another until none is left or this worker drains."""
        try:
            for lane in Lane:
                self._work(lane)
        except (SQLAlchemyError, StorageUnavailable, OSError) as error:
            log.warning("claim.failed", error=str(error))

    def _work(self, lane: Lane) -> None:
        # Looking first, no thread waits for a slot without need; waiting a moment then catches
        # the job that was queued while a slot was just giving up.
        if self._best(lane) is None or not self._free[lane].acquire(timeout=1.0):
            return
        try:
            while (claimed := self._claim(lane)) is not None:
                job, claimed_at = claimed
                with structlog.contextvars.bound_contextvars(
                    job_id=job.id, fence=job.fence, request_id=job.request_id
                ):
                    self.run(job, claimed_at)
        finally:
            self._free[lane].release()

    def _best(self, lane: Lane) -> Job | None:
        with self.resources.database.read() as session:
            return leases.best(session, lane, besides=self._passed_over())

    def _claim(self, lane: Lane) -> tuple[Job, float] | None:
        """Take the first queued job for which this machine has room; also tell when it was asked.

        Looking for room takes too long for a transaction, so it comes before. A job that finds
        none keeps its place for other workers, and this one looks at those behind it.
        """
        database, settings = self.resources.database, self.resources.settings
        while not self.draining.is_set():
            seen = self._best(lane)
            if seen is None:
                return None
            missing = disk_check.lacking(self.resources, seen, self.works.get(seen.kind))
            asked_at = time.monotonic()
            with database.write() as session:
                if missing is None:
                    job = leases.claim(session, seen, self.owner, settings.lease_seconds)
                else:
                    leases.postpone(session, seen.id, Lack.DISK, missing)
            if missing is not None:
                log.warning("job.postponed", job_id=seen.id, reason=missing)
                self._next_look[seen.id] = asked_at + settings.sweep_seconds
            elif job is not None:
                return job, asked_at
        return None

    def _passed_over(self) -> list[str]:
        """Return the jobs for which this machine had no room a moment ago."""
        now = time.monotonic()
        for job_id, due in list(self._next_look.items()):
            if due <= now:
                self._next_look.pop(job_id, None)
        return list(self._next_look)

    def run(self, job: Job, claimed_at: float) -> None:
        """Run one claimed job to whatever end."""
        log.info("job.started", kind=job.kind, attempt=job.attempt)
        settings = self.resources.settings
        folder = settings.data_dir / "runs" / job.id / str(job.fence)
        portable = portable_checkpoint.Shipper(self.resources, job, folder)
        with Claim(self.resources.database, settings, job, claimed_at) as claim:
            try:
                portable.begin(partial(self._check, claim))
                self._attempt(job, folder, claim, portable)
            except leases.LostLease:
                log.warning("job.lost")
            except Exception as error:  # noqa: BLE001 - every end must reach the row.
                self._settle(job, claim, error, self._keep(job, folder, claim, portable))
            else:
                log.info("job.succeeded")
                claim.settled()
                portable.forget()
                attempt.remove(folder)
        attempt.shrink(folder)

    def _attempt(
        self, job: Job, folder: Path, claim: Claim, portable: portable_checkpoint.Shipper
    ) -> None:
        check = partial(self._check, claim)
        work = self.works.get(job.kind)
        if work is None:
            raise TopworkError(f"no worker runs {job.kind} jobs")
        hit("stage.begin")
        request = work.stage(self.resources, job, folder, check)
        (folder / "request.json").write_text(json.dumps(request, indent=1))
        check()
        relay = Relay(self.resources.database, job.id, job.fence, folder)
        shipper = attempt.LogShipper(self.resources.storage, job.id, folder)
        try:
            ended = self._watch(work.module, folder, claim, relay, shipper, portable)
        finally:
            if not claim.lost:  # Else the log under this key is another attempt's.
                shipper.ship()
        relay.flush(claim.check_lost)
        claim.check()
        raise_for(ended, folder)
        relay.enter(Phase.PUBLISHING)
        work.publish(self.resources, job, folder, partial(self._check_publishing, claim))

    def _check(self, claim: Claim) -> None:
        self._check_publishing(claim)
        if self.draining.is_set() or claim.paused:
            raise Drained

    def _check_publishing(self, claim: Claim) -> None:
        claim.check()
        if not self._left:
            raise Drained

    def _watch(
        self,
        module: str,
        folder: Path,
        claim: Claim,
        relay: Relay,
        shipper: attempt.LogShipper,
        portable: portable_checkpoint.Shipper,
    ) -> Exit:
        settings = self.resources.settings
        process = Process(
            module, folder, good_until=claim.good_until, threads=self._threads, warm=self.warm
        )
        with process:
            log.info("job.process", pid=process.pid, warm=process.warm)
            claim.keeps(process)
            while (ended := process.wait(TICK)) is None:
                claim.check_lost()
                relay.pump()
                shipper.ship_every(settings.heartbeat_seconds)
                portable.look(relay.pump)
                if claim.cancelled:
                    process.stop(min(settings.cancel_grace_seconds, self._left))
                elif self.draining.is_set() or claim.paused:
                    process.stop(min(DRAIN_GRACE, self._left))
                elif relay.silence > settings.hung_seconds:
                    raise Crashed(f"the process reported nothing for {relay.silence:.0f} s")
        return ended

    def _keep(
        self, job: Job, folder: Path, claim: Claim, portable: portable_checkpoint.Shipper
    ) -> dict[str, Any]:
        """Store what the attempt has done while there is time; its end is written in any case."""
        work = self.works.get(job.kind)
        if work is not None and not claim.lost:
            try:
                portable.finish(self._left)
                return work.keep(self.resources, job, folder) if self._left else {}
            except (*AWAY, OSError) as error:
                log.warning("job.unkept", error=str(error))
        return {}

    def _settle(self, job: Job, claim: Claim, error: Exception, kept: dict[str, Any]) -> None:
        """Write down how an attempt ended, if the database can be reached while it is ours."""
        log.info("job.ended", reason=str(error) or type(error).__name__)
        settings = self.resources.settings
        while not claim.lost:
            try:
                with self.resources.database.write() as session:
                    if kept:
                        leases.keep(session, job.id, job.fence, kept)
                    outcomes.write(session, job, error, settings, cancelled=claim.cancelled)
            except leases.LostLease:
                break
            except db.AWAY as away:
                log.warning("job.unsettled", error=str(away))
                time.sleep(1.0)  # Leaving or not: a set event would not wait.
            else:
                if isinstance(error, AWAY):
                    self.draining.wait(PAUSE)
                return
        log.warning("job.lost")


def raise_for(ended: Exit, folder: Path) -> None:
    """Return when the child is done, else raise what its end means."""
    if ended.ending is Ending.DONE:
        return
    if ended.ending is Ending.REFUSED:
        raise from_dict(json.loads((folder / "error.json").read_text()))
    if ended.ending is Ending.STOPPED:
        raise Drained
    if ended.ending is Ending.OUT_OF_MEMORY:
        raise OutOfMemory
    if ended.ending is Ending.DISK_FULL:
        raise DiskFull
    if ended.ending is Ending.KILLED:
        raise Lost(f"the process was {ended}, from outside")
    if ended.ending is Ending.RAISED and (fault := faults.recorded(folder)) is not None:
        raise Crashed(f"the process ended with {fault}", fault)
    said = attempt.tail(folder / "log.txt", LAST_WORDS).decode(errors="replace")
    said = said.rpartition(attempt.marker(int(folder.name)))[2]
    if tells_of_no_memory(said):  # Libraries abort; the interpreter gets no exception then.
        raise no_memory(began=(folder / "events.jsonl").exists())
    lines = said.replace("\0", "").strip().splitlines()  # Postgres takes no NUL.
    last = lines[-1] if lines else "it said nothing"
    raise Crashed(f"the process ended with {ended}: {last}")
