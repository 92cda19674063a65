"""The state machine of all kinds of jobs; each move is an event in the same transaction."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.domain import datasets, events, webhooks
from core.store.db import db_now
from core.store.tables import Dataset, Job
from topwork.errors import ClassesLost, DatasetInvalid, DatasetNotFound, StateConflict
from topwork.kinds import (
    TERMINAL,
    DatasetState,
    EventKind,
    JobKind,
    JobState,
    Product,
    WebhookEvent,
)

ENDS: dict[str, WebhookEvent] = {
    JobState.SUCCEEDED: WebhookEvent.JOB_SUCCEEDED,
    JobState.FAILED: WebhookEvent.JOB_FAILED,
    JobState.CANCELLED: WebhookEvent.JOB_CANCELLED,
}
FILLING = JobKind.making(Product.DATASET_VERSION)
MOVES: dict[str, set[JobState]] = {
    JobState.WAITING: {JobState.QUEUED, JobState.PAUSED, JobState.FAILED, JobState.CANCELLED},
    JobState.QUEUED: {JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED},
    JobState.RUNNING: {JobState.QUEUED, JobState.PAUSED, *TERMINAL},
    JobState.PAUSED: {JobState.QUEUED, JobState.WAITING, JobState.CANCELLED},
    JobState.SUCCEEDED: set(),
    JobState.FAILED: {JobState.QUEUED, JobState.WAITING},
    JobState.CANCELLED: {JobState.QUEUED, JobState.WAITING},
}


def now(session: Session) -> float:
    """Return the database's time in epoch seconds."""
    return float(session.execute(select(db_now())).scalar_one())


def move(session: Session, job: Job, state: str, *, reason: str | None = None) -> None:
    """Bring a job that the caller holds for writing into a state, with its event.

    Raises:
        StateConflict: The state machine has no such move.
    """
    if state not in MOVES[job.state]:
        raise StateConflict(f"a job that is {job.state} cannot become {state}")
    job.state = state
    job.reason = reason
    if state != JobState.RUNNING:
        job.worker = job.lease_until = job.eta = job.pause_requested_at = None
        job.lacks = job.not_before = None
    if state in (JobState.QUEUED, JobState.PAUSED):
        job.phase = None
    if state == JobState.QUEUED:
        session.info["ring"] = True
    data = {"state": state, "attempt": job.attempt}
    events.append(session, job, EventKind.STATE, data | ({"reason": reason} if reason else {}))


def hand_back(session: Session, job: Job, reason: str) -> None:
    """Bring a job that runs no longer to where the user wants it: cancelled, paused or queued."""
    if job.cancel_requested_at is not None:
        finish(session, job, JobState.CANCELLED)
    elif job.pause_requested_at is not None:
        move(session, job, JobState.PAUSED)
    else:
        move(session, job, JobState.QUEUED, reason=reason)


def finish(
    session: Session,
    job: Job,
    state: str,
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> None:
    """Bring a job into a terminal state and settle what waits for it."""
    job.error, job.phase = error, None
    if result is not None:  # What an attempt has kept stays otherwise.
        job.result = result
    if state == JobState.SUCCEEDED:
        job.progress = 1.0
    move(session, job, state, reason=error["message"] if error else None)
    job.finished_at = now(session)
    told = {"job": job.id, "kind": job.kind, "state": state, "result": result, "error": error}
    webhooks.tell(session, job.owner, ENDS[state], told)
    if job.kind in FILLING and job.dataset_id is not None:
        settle_dataset(session, job.dataset_id, error=error, state=state)


def settle_dataset(
    session: Session, dataset_id: str, *, state: str, error: dict[str, Any] | None = None
) -> None:
    """Tell the jobs that wait for a dataset how its ingestion ended."""
    dataset = session.get_one(Dataset, dataset_id)
    if state != JobState.SUCCEEDED:
        dataset.state = DatasetState.FAILED
        dataset.error = error or DatasetInvalid("the ingestion was cancelled").to_dict()
    waiting = select(Job).where(Job.dataset_id == dataset_id, Job.state == JobState.WAITING)
    for job in session.scalars(waiting.with_for_update()):
        release_waiting(session, job, dataset)


def release_waiting(session: Session, job: Job, dataset: Dataset) -> None:
    """Queue a job whose dataset has become ready, or fail it where it cannot be trained on."""
    if dataset.state == DatasetState.READY:
        try:
            job.dataset_version = datasets.version_for(session, job).number
        except (ClassesLost, DatasetNotFound) as error:
            finish(session, job, JobState.FAILED, error=error.to_dict())
        else:
            move(session, job, JobState.QUEUED)
    elif dataset.state == DatasetState.FAILED:
        finish(session, job, JobState.FAILED, error=dataset.error)


def terminal(job: Job) -> bool:
    """Tell whether a job has ended."""
    return job.state in TERMINAL
