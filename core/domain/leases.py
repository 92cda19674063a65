"""Operations of workers on jobs: claim, renew, record, end; the fence guards every write.

A claim raises the job's fence. A worker that lost its lease (frozen, partitioned, too slow)
carries an old fence, so none of its later writes match. All times are the database's.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, select, update
from sqlalchemy.orm import Session

from core.domain import blame, events, job_states, lanes
from core.store.db import Database, db_now
from core.store.tables import Dataset, Job
from core.system.faults import Fault
from core.system.settings import Settings
from topwork.kinds import DatasetState, EventKind, JobState, Lane, Phase


class LostLease(Exception):
    """Another worker may run this job now; stop and write nothing."""


@dataclass(frozen=True)
class Lease:
    """What a renewal tells the worker."""

    cancel_requested: bool
    pause_requested: bool


def best(session: Session, lane: Lane | None = None, besides: Collection[str] = ()) -> Job | None:
    """Return the first queued job of a lane, or of any, that is due; never one of `besides`."""
    queue = select(Job).where(*_due(), Job.id.not_in(besides))
    if lane is not None:
        queue = queue.where(lanes.holds(lane))
    return session.scalars(queue.order_by(Job.priority, Job.id).limit(1)).first()


def _due() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Job.state == JobState.QUEUED, or_(Job.not_before.is_(None), Job.not_before <= db_now())


def postpone(session: Session, job_id: str, lacks: str, reason: str) -> None:
    """Say of a queued job what a worker lacks for it; another worker may take it all the same."""
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None or job.state != JobState.QUEUED:
        return
    if job.lacks != lacks:
        events.append(session, job, EventKind.WAITING, {"for": lacks, "reason": reason})
    job.lacks, job.reason = lacks, reason


def claim(session: Session, seen: Job, owner: str, lease_seconds: float) -> Job | None:
    """Take a queued job if it is still what it was when it was `seen`, else None.

    Whatever happens to a job is an event, so the number of its newest one tells. One statement, so
    two workers never take the same; a row that another one is about to write is left to it.
    """
    unchanged = (Job.id == seen.id, Job.last_seq == seen.last_seq, *_due())
    free = select(Job.id).where(*unchanged).with_for_update(skip_locked=True)
    taken = (
        update(Job)
        .where(Job.id == free.scalar_subquery(), *unchanged)
        .values(
            state=JobState.RUNNING,
            phase=Phase.PREPARING,
            worker=owner,
            fence=Job.fence + 1,
            attempt=Job.attempt + 1,
            lease_until=db_now() + lease_seconds,
            progressed=False,
            reason=None,
            lacks=None,
            not_before=None,
            result=None,
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    job = session.scalars(taken).one_or_none()
    if job is not None:
        job.started_at = job.started_at or job_states.now(session)
        data = {"state": JobState.RUNNING, "attempt": job.attempt, "worker": owner}
        events.append(session, job, EventKind.STATE, data)
    return job


def renew(session: Session, job_id: str, fence: int, lease_seconds: float) -> Lease:
    """Lengthen a lease and learn whether the job was asked to stop.

    Raises:
        LostLease: The job is no longer this worker's.
    """
    renewed = (
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state == JobState.RUNNING)
        .values(lease_until=db_now() + lease_seconds)
        .returning(Job.cancel_requested_at, Job.pause_requested_at)
    )
    return _lease(session.execute(renewed).one_or_none(), job_id)


def look(session: Session, job_id: str, fence: int) -> Lease:
    """Learn without taking the write lock whether the job was asked to stop.

    Raises:
        LostLease: The job is no longer this worker's.
    """
    asked = select(Job.cancel_requested_at, Job.pause_requested_at).where(
        Job.id == job_id, Job.fence == fence, Job.state == JobState.RUNNING
    )
    return _lease(session.execute(asked).one_or_none(), job_id)


def _lease(row: Row[float | None, float | None] | None, job_id: str) -> Lease:
    if row is None:
        raise LostLease(job_id)
    return Lease(cancel_requested=row[0] is not None, pause_requested=row[1] is not None)


def held(session: Session, job_id: str, fence: int) -> Job:
    """Return the job with its row held for writing, if this fence still owns it.

    Raises:
        LostLease: The job is no longer this worker's.
    """
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None or job.fence != fence or job.state != JobState.RUNNING:
        raise LostLease(job_id)
    return job


def record(session: Session, job_id: str, fence: int, reports: list[dict[str, Any]]) -> None:
    """Take over what the job's process reported: progress onto the row, the rest as events.

    A step beyond all earlier ones, and a phase that the job never came to, are progress.
    """
    job = held(session, job_id, fence)
    for report in reports:
        data = {key: value for key, value in report.items() if key != "kind"}
        kind = str(report.get("kind", EventKind.NOTE))
        if kind == EventKind.PROGRESS:
            step = int(data.get("step", 0))
            job.progress = min(1.0, max(0.0, float(data.get("progress", job.progress))))
            job.progressed |= step > job.last_step
            job.last_step = max(job.last_step, step)
            job.eta = data.get("eta")
            continue
        if kind == EventKind.PHASE:
            job.phase = str(data["phase"])
            before = {
                event.data.get("phase")
                for event in events.of_kind(session, job_id, EventKind.PHASE)
            }
            job.progressed |= job.phase not in before
        if kind == EventKind.PLAN:
            job.plan = data["plan"]
        events.append(session, job, kind, data)


def succeed(session: Session, job_id: str, fence: int, result: dict[str, Any]) -> Job:
    """End a job well; what it publishes belongs into the same transaction."""
    job = held(session, job_id, fence)
    job_states.finish(session, job, JobState.SUCCEEDED, result=result)
    return job


def keep(session: Session, job_id: str, fence: int, files: dict[str, Any]) -> None:
    """Note the files, name -> {sha256, size}, that an attempt leaves whose end follows here.

    They are the job's until another attempt begins, which has a prefix of its own.
    """
    held(session, job_id, fence).result = {"files": files}


def fail(session: Session, job_id: str, fence: int, error: dict[str, Any]) -> None:
    """End a job that cannot succeed, with `{code, message, param, hint}`."""
    job_states.finish(session, held(session, job_id, fence), JobState.FAILED, error=error)


def cancelled(session: Session, job_id: str, fence: int) -> None:
    """End a job whose process was stopped because the user asked."""
    job_states.finish(session, held(session, job_id, fence), JobState.CANCELLED)


def release(session: Session, job_id: str, fence: int, reason: str) -> None:
    """Hand a job back on purpose (a draining worker, a pause); never counts against it."""
    job_states.hand_back(session, held(session, job_id, fence), reason)


def crashed(
    session: Session, job_id: str, fence: int, words: str, most: int, fault: Fault | None = None
) -> None:
    """End an attempt that the job's own process broke off; see `core.domain.blame.crash`."""
    blame.crash(session, held(session, job_id, fence), words, most, fault)


def lost(
    session: Session, job_id: str, fence: int, words: str, most: int, fault: Fault | None = None
) -> None:
    """End an attempt that its worker or machine failed; see `core.domain.blame.lose`."""
    blame.lose(session, held(session, job_id, fence), words, most, fault)


def starved(session: Session, job_id: str, fence: int, words: str, seconds: float) -> None:
    """End an attempt that found the disk full; see `core.domain.blame.starve`."""
    blame.starve(session, held(session, job_id, fence), words, seconds)


def abandon(session: Session, owner: str) -> None:
    """End the leases of a worker that is known to be dead, so that the next sweep requeues."""
    held_by_it = update(Job).where(Job.worker == owner, Job.state == JobState.RUNNING)
    session.execute(held_by_it.values(lease_until=0.0))


def sweep(database: Database, settings: Settings) -> int:
    """Requeue jobs whose worker vanished and release those that wait for a settled dataset.

    Returns the number of jobs moved. Safe to run anywhere, any number of times at once. It rings
    only for jobs that it moves: workers look into the queue with each sweep of their own, so a
    lost doorbell needs no second one, and a broker without workers is not filled with them.
    """
    expired = (Job.state == JobState.RUNNING) & (Job.lease_until < db_now())
    orphaned = (
        (Job.state == JobState.WAITING)
        & (Job.dataset_id == Dataset.id)
        & (Dataset.state.in_((DatasetState.READY, DatasetState.FAILED)))
    )
    with database.read() as session:
        due = list(session.scalars(select(Job.id).where(expired)))
        due += session.scalars(select(Job.id).where(orphaned))
    if not due:
        return 0
    with database.write() as session:
        still = Job.id.in_(due)
        lost = session.scalars(select(Job).where(expired, still).with_for_update()).all()
        for job in lost:
            blame.lose(session, job, f"worker {job.worker} disappeared", settings.max_losses)
        ready = select(Job).where(orphaned, still).with_for_update(of=Job)
        for job in session.scalars(ready):
            dataset = session.get_one(Dataset, job.dataset_id)
            job_states.release_waiting(session, job, dataset)
    return len(due)
