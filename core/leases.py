"""What workers do with jobs: claim, renew, record, end; every write is guarded by the fence.

A claim raises the job's fence. A worker that lost its lease (frozen, partitioned, too slow)
carries an old fence, so none of its later writes match. All times are the database's.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, select, update
from sqlalchemy.orm import Session

from core import events, transitions
from core.db import Database, db_now
from core.errors import Poison, WorkerLost
from core.faults import Fault, UnexpectedException
from core.settings import Settings
from core.tables import Dataset, Job


class LostLease(Exception):
    """Another worker may run this job now; stop and write nothing."""


@dataclass(frozen=True)
class Lease:
    """What a renewal tells the worker."""

    cancel_requested: bool
    pause_requested: bool


def best(session: Session, besides: Collection[str] = ()) -> Job | None:
    """Return the first queued job that is due, leaving out those of these ids."""
    queue = select(Job).where(*_due(), Job.id.not_in(besides))
    return session.scalars(queue.order_by(Job.priority, Job.id).limit(1)).first()


def _due() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Job.state == "queued", or_(Job.not_before.is_(None), Job.not_before <= db_now())


def postpone(session: Session, job_id: str, lacks: str, reason: str) -> None:
    """Say of a queued job what a worker lacks for it; another worker may take it all the same."""
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None or job.state != "queued":
        return
    if job.lacks != lacks:
        events.append(session, job, "waiting", {"for": lacks, "reason": reason})
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
            state="running",
            phase="preparing",
            worker=owner,
            fence=Job.fence + 1,
            attempt=Job.attempt + 1,
            lease_until=db_now() + lease_seconds,
            step_at_claim=Job.last_step,
            reason=None,
            lacks=None,
            not_before=None,
        )
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    job = session.scalars(taken).one_or_none()
    if job is not None:
        job.started_at = job.started_at or transitions.now(session)
        data = {"state": "running", "attempt": job.attempt, "worker": owner}
        events.append(session, job, "state", data)
    return job


def renew(session: Session, job_id: str, fence: int, lease_seconds: float) -> Lease:
    """Lengthen a lease and learn whether the job was asked to stop.

    Raises:
        LostLease: The job is no longer this worker's.
    """
    renewed = (
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state == "running")
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
        Job.id == job_id, Job.fence == fence, Job.state == "running"
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
    if job is None or job.fence != fence or job.state != "running":
        raise LostLease(job_id)
    return job


def record(session: Session, job_id: str, fence: int, reports: list[dict[str, Any]]) -> None:
    """Take over what the job's process reported: progress onto the row, the rest as events."""
    job = held(session, job_id, fence)
    for report in reports:
        data = {key: value for key, value in report.items() if key != "kind"}
        kind = str(report.get("kind", "note"))
        if kind == "progress":
            job.progress = min(1.0, max(0.0, float(data.get("progress", job.progress))))
            job.last_step = max(job.last_step, int(data.get("step", 0)))
            job.eta = data.get("eta")
            continue
        if kind == "phase":
            job.phase = str(data["phase"])
        if kind == "plan":
            job.plan = data["plan"]
        events.append(session, job, kind, data)


def succeed(session: Session, job_id: str, fence: int, result: dict[str, Any]) -> Job:
    """End a job well; what it publishes belongs into the same transaction."""
    job = held(session, job_id, fence)
    transitions.finish(session, job, "succeeded", result=result)
    return job


def fail(session: Session, job_id: str, fence: int, error: dict[str, Any]) -> None:
    """End a job that cannot succeed, with `{code, message, param, hint}`."""
    transitions.finish(session, held(session, job_id, fence), "failed", error=error)


def cancelled(session: Session, job_id: str, fence: int) -> None:
    """End a job whose process was stopped because the user asked."""
    transitions.finish(session, held(session, job_id, fence), "cancelled")


def release(session: Session, job_id: str, fence: int, reason: str) -> None:
    """Hand a job back on purpose (a draining worker, a pause); never counts against it."""
    _hand_back(session, held(session, job_id, fence), reason)


def _hand_back(session: Session, job: Job, reason: str) -> None:
    if job.cancel_requested_at is not None:
        transitions.finish(session, job, "cancelled")
    elif job.pause_requested_at is not None:
        transitions.move(session, job, "paused")
    else:
        transitions.move(session, job, "queued", reason=reason)


def crashed(
    session: Session,
    job_id: str,
    fence: int,
    error: dict[str, Any],
    max_attempts: int,
    fault: Fault | None = None,
) -> None:
    """Queue a job whose process died, unless it keeps dying without progress.

    A `fault`, the exception that ended it, is met once: the same one again would come a third time.
    """
    job = held(session, job_id, fence)
    progressed = job.last_step > job.step_at_claim
    known = fault is not None and not progressed and fault.digest == job.fault
    job.fault = fault.digest if fault else None
    if fault is not None and known and job.cancel_requested_at is None:
        job.stalls += 1
        transitions.finish(session, job, "failed", error=UnexpectedException.of(fault).to_dict())
    else:
        _requeue(session, job, error, max_attempts)


def _requeue(session: Session, job: Job, error: dict[str, Any], max_attempts: int) -> None:
    job.stalls = 0 if job.last_step > job.step_at_claim else job.stalls + 1
    if job.cancel_requested_at is None and job.stalls >= max_attempts:
        poison = Poison(
            f"the job failed {job.stalls} times without progress; last: {error['message']}",
            hint=error.get("hint"),
        )
        transitions.finish(session, job, "failed", error=poison.to_dict())
    else:
        _hand_back(session, job, error["message"])


def starved(
    session: Session,
    job_id: str,
    fence: int,
    error: dict[str, Any],
    max_attempts: int,
    seconds: float,
) -> None:
    """Queue a job that filled the disk, for later; fail it if it does so again and again."""
    job = held(session, job_id, fence)
    job.stalls = 0 if job.last_step > job.step_at_claim else job.stalls + 1
    if job.cancel_requested_at is None and job.stalls >= max_attempts:
        transitions.finish(session, job, "failed", error=error)
        return
    _hand_back(session, job, error["message"])
    if job.state == "queued":
        job.lacks, job.reason = "disk", error["message"]
        job.not_before = transitions.now(session) + seconds


def abandon(session: Session, owner: str) -> None:
    """End the leases of a worker that is known to be dead, so that the next sweep requeues."""
    held_by_it = update(Job).where(Job.worker == owner, Job.state == "running")
    session.execute(held_by_it.values(lease_until=0.0))


def sweep(database: Database, settings: Settings) -> int:
    """Requeue jobs whose worker vanished and release those that wait for a settled dataset.

    Returns the number of jobs moved. Safe to run anywhere, any number of times at once. It rings
    only for jobs that it moves: workers look into the queue with each sweep of their own, so a
    lost doorbell needs no second one, and a broker without workers is not filled with them.
    """
    expired = (Job.state == "running") & (Job.lease_until < db_now())
    orphaned = (
        (Job.state == "waiting")
        & (Job.dataset_id == Dataset.id)
        & (Dataset.state.in_(("ready", "failed")))
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
            error = WorkerLost(f"worker {job.worker} disappeared").to_dict()
            _requeue(session, job, error, settings.max_attempts)
        ready = select(Job).where(orphaned, still).with_for_update(of=Job)
        for job in session.scalars(ready):
            dataset = session.get_one(Dataset, job.dataset_id)
            transitions.release_waiting(session, job, dataset)
    return len(due)
