"""Operations of users on jobs: submit, read, pause, resume, cancel, retry, delete."""

import math
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from core.domain import checkpoints, datasets, events, job_states, lanes, workers
from core.store.pagination import page_of
from core.store.row_access import EVERYONE, request_of
from core.store.tables import Dataset, Job, JobEvent, ModelVersion
from topwork.errors import JobNotFound, StateConflict, UploadNotFound
from topwork.kinds import DatasetState, EventKind, JobState, Lack, Priority

EVENTS_AT_ONCE = 5000
PRIORITIES = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


def submit(
    session: Session,
    *,
    kind: str,
    config: dict[str, Any],
    dataset_id: str | None = None,
    dataset_version: int | None = None,
    priority: str = Priority.NORMAL,
    metadata: dict[str, Any] | None = None,
    plan: dict[str, Any] | None = None,
    waits: bool = False,
) -> Job:
    """Add a job; it is queued at once, or waits until its dataset is ready."""
    job = Job(
        kind=kind,
        config=config,
        dataset_id=dataset_id,
        dataset_version=dataset_version,
        priority=PRIORITIES[Priority(priority)],
        user_metadata=metadata or {},
        plan=plan,
        request_id=request_of(session),
        state=JobState.WAITING if waits else JobState.QUEUED,
        last_seq=0,
        fence=0,
        attempt=0,
    )
    session.add(job)
    session.flush()
    events.append(session, job, EventKind.STATE, {"state": job.state, "attempt": 0})
    session.info["ring"] = True
    return job


def get(session: Session, job_id: str, *, lock: bool = False) -> Job:
    """Return a job or raise JobNotFound; `lock` holds its row until the transaction ends."""
    job = session.get(Job, job_id, with_for_update=lock, populate_existing=lock)
    if job is None:
        raise JobNotFound(f"there is no job {job_id}")
    return job


def page(
    session: Session,
    *,
    limit: int = 20,
    after: str | None = None,
    order: str = "desc",
    state: str | None = None,
    kind: str | None = None,
    dataset: str | None = None,
) -> tuple[list[Job], bool]:
    """Return up to `limit` jobs beyond the cursor and whether there are more."""
    wanted = select(Job)
    for column, value in ((Job.kind, kind), (Job.dataset_id, dataset)):
        if value is not None:
            wanted = wanted.where(column == value)
    if state is not None:
        wanted = wanted.where(_looks(state))
    return page_of(session, wanted, Job.id, limit=limit, after=after, order=order)


def _looks(state: str) -> ColumnElement[bool]:
    """Return the condition under which `display_state` is this one."""
    asked, paused = Job.cancel_requested_at.is_not(None), Job.pause_requested_at.is_not(None)
    running = {
        JobState.RUNNING: ~asked & ~paused,
        JobState.PAUSING: ~asked & paused,
        JobState.CANCELLING: asked,
    }
    how = running.get(JobState(state))
    return Job.state == state if how is None else (Job.state == JobState.RUNNING) & how


def cancel(session: Session, job_id: str) -> Job:
    """Cancel a job: at once where nothing runs yet, else by asking its worker.

    Raises:
        StateConflict: The job has already succeeded or failed.
    """
    job = get(session, job_id, lock=True)
    if job.state == JobState.CANCELLED:
        return job
    if job_states.terminal(job):
        raise StateConflict(f"the job has already {job.state}")
    if job.state == JobState.RUNNING:
        if job.cancel_requested_at is None:
            job.cancel_requested_at = job_states.now(session)
            events.append(session, job, EventKind.CANCEL_REQUESTED, {})
    else:
        job_states.finish(session, job, JobState.CANCELLED)
    return job


def pause(session: Session, job_id: str) -> Job:
    """Let a job rest: at once where nothing runs yet, else after its worker saved a checkpoint.

    Raises:
        StateConflict: The job has ended.
    """
    job = _open(session, job_id)
    if job.state == JobState.RUNNING:
        if job.pause_requested_at is None:
            job.pause_requested_at = job_states.now(session)
            events.append(session, job, EventKind.PAUSE_REQUESTED, {})
    elif job.state != JobState.PAUSED:
        job_states.move(session, job, JobState.PAUSED)
    return job


def resume(session: Session, job_id: str) -> Job:
    """Queue a paused job again, or withdraw the wish to pause it; it goes on where it stopped.

    Raises:
        StateConflict: The job has ended.
    """
    job = _open(session, job_id)
    if job.state == JobState.PAUSED:
        _queue(session, job)
    elif job.pause_requested_at is not None:
        job.pause_requested_at = None
        events.append(session, job, EventKind.RESUME_REQUESTED, {})
    return job


def retry(session: Session, job_id: str) -> Job:
    """Queue a failed or cancelled job again; it goes on from its last checkpoint.

    Raises:
        StateConflict: The job has not ended, or has succeeded.
    """
    job = get(session, job_id, lock=True)
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise StateConflict(f"a job that is {job.state} cannot be retried")
    job.error = job.finished_at = job.cancel_requested_at = None
    job.stalls = job.losses = job.shortages = 0
    job.fault = None
    dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
    if job.kind in job_states.FILLING and dataset is not None:
        dataset.state, dataset.error = DatasetState.INGESTING, None
    _queue(session, job)
    return job


def answer(session: Session, dataset_id: str, answers: dict[str, Any]) -> Job:
    """Read a dataset's upload again, with answers to what it does not say; return that job.

    What waited for the dataset and failed with it waits again.

    Raises:
        StateConflict: The dataset is ready, or its upload is being read.
        UploadNotFound: The upload, or the job that read it, is there no longer.
    """
    dataset = datasets.get(session, dataset_id, lock=True)
    if dataset.state != DatasetState.FAILED:
        raise StateConflict(f"the dataset {dataset_id} is {dataset.state}: there is no question")
    job = session.get(Job, dataset.job_id) if dataset.upload is not None else None
    if job is None:
        message = f"the upload of {dataset_id} is not kept any more"
        raise UploadNotFound(message, hint="Send the images again, with the answer.")
    retry(session, job.id)
    job.config = job.config | {"answers": job.config.get("answers", {}) | answers}
    unbegun = (Job.dataset_id == dataset_id, Job.state == JobState.FAILED, Job.attempt == 0)
    for waited in session.scalars(select(Job.id).where(*unbegun)).all():
        retry(session, waited)
    return job


def _open(session: Session, job_id: str) -> Job:
    job = get(session, job_id, lock=True)
    if job_states.terminal(job):
        raise StateConflict(f"the job has already {job.state}")
    return job


def _queue(session: Session, job: Job) -> None:
    """Queue a job, or let it wait where its dataset is not ready."""
    dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
    needed = None if job.kind in job_states.FILLING else dataset
    if needed is not None and needed.state != DatasetState.READY:
        job_states.move(session, job, JobState.WAITING)
        job_states.release_waiting(session, job, needed)
        return
    if needed is not None:
        job.dataset_version = datasets.version_for(session, job).number
    job_states.move(session, job, JobState.QUEUED)


def forget_events(session: Session, job_id: str) -> bool:
    """Forget some of the events of a job that has ended; tell whether `delete` can do the rest.

    A long history would otherwise keep every other writer of SQLite waiting for seconds.

    Raises:
        StateConflict: The job has not ended.
    """
    _ended(session, job_id)
    own = JobEvent.job_id == job_id
    until = select(JobEvent.seq).where(own).order_by(JobEvent.seq).offset(EVENTS_AT_ONCE).limit(1)
    seq = session.scalar(until)
    if seq is None:
        return True
    session.execute(sql_delete(JobEvent).where(own, JobEvent.seq < seq))
    return False


def _ended(session: Session, job_id: str) -> Job:
    job = get(session, job_id, lock=True)
    if not job_states.terminal(job):
        raise StateConflict("cancel the job first")
    return job


def delete(session: Session, job_id: str) -> list[str]:
    """Forget a job that has ended, with its events; what it published stays.

    Returns the key of the upload that only this job was to read, if there is one.

    Raises:
        StateConflict: The job has not ended.
    """
    job = _ended(session, job_id)
    for version in session.scalars(select(ModelVersion).where(ModelVersion.job_id == job.id)):
        version.job_id = None
    session.flush()
    checkpoints.forget(session, job.id)
    session.execute(sql_delete(JobEvent).where(JobEvent.job_id == job.id))
    session.delete(job)
    upload = job.config.get("upload")
    return [upload] if upload else []


def queue_position(session: Session, job: Job) -> int | None:
    """Return how many queued jobs of anybody run before this one; None when it is not queued."""
    if job.state != JobState.QUEUED:
        return None
    return count(session, _earlier(job))


def _earlier(job: Job) -> ColumnElement[bool]:
    first = or_(Job.priority < job.priority, and_(Job.priority == job.priority, Job.id < job.id))
    return and_(Job.state == JobState.QUEUED, lanes.holds(lanes.of(job)), first)


def _running_beside(job: Job) -> ColumnElement[bool]:
    return and_(Job.state == JobState.RUNNING, lanes.holds(lanes.of(job)))


def starts_in(session: Session, job: Job) -> float | None:
    """Return in how many seconds a queued job begins, by the estimates of what comes before it.

    None when it is not queued, no worker is there, or a job before it has no estimate.
    """
    slots = workers.slots(session, lanes.of(job)) if job.state == JobState.QUEUED else 0
    if not slots:
        return None
    planned = Job.plan["eta_seconds"]["value"].as_float() * (1.0 - Job.progress)
    left = func.coalesce(Job.eta, planned)
    before = or_(_running_beside(job), _earlier(job))
    sums = select(func.count(), func.count(left), func.sum(left)).select_from(Job).where(before)
    row = session.execute(sums, execution_options=EVERYONE).one()
    number, known, seconds = int(row[0]), int(row[1]), float(row[2] or 0.0)
    if number < slots:  # One of them is free.
        return 0.0
    return round(seconds / slots, 1) if known == number else None


def waits_for(session: Session, job: Job) -> dict[str, str] | None:
    """Return what keeps a job from starting, `{"for": dataset|disk|worker|slot, "reason": ...}`."""
    if job.state == JobState.WAITING:
        return {"for": Lack.DATASET, "reason": f"the dataset {job.dataset_id} is being read"}
    if job.state != JobState.QUEUED:
        return None
    if job.lacks is not None:
        return {"for": job.lacks, "reason": job.reason or ""}
    slots = workers.slots(session, lanes.of(job))
    if not slots:
        return {"for": Lack.WORKER, "reason": "no worker has been seen for a minute"}
    if count(session, _running_beside(job)) < slots:
        return None
    return {"for": Lack.SLOT, "reason": f"{_holder(session, job)} holds the slot"}


def _holder(session: Session, job: Job) -> str:
    """Return in words which running job ends first, of those that the asker may see."""
    seen = select(Job).where(_running_beside(job)).order_by(func.coalesce(Job.eta, math.inf))
    first = session.scalars(seen.limit(1)).first()
    if first is None:
        return "a job of somebody else"
    words = f"{first.id} ({first.kind})"
    return words if first.eta is None else f"{words}, with about {first.eta:.0f} s left,"


def count(session: Session, condition: ColumnElement[bool]) -> int:
    """Return how many jobs of anybody are so."""
    matching = select(func.count()).select_from(Job).where(condition)
    return session.execute(matching, execution_options=EVERYONE).scalar_one()


def display_state(job: Job) -> str:
    """Return the state as users see it: a running job may be cancelling or pausing."""
    if job.state == JobState.RUNNING and job.cancel_requested_at is not None:
        return JobState.CANCELLING
    if job.state == JobState.RUNNING and job.pause_requested_at is not None:
        return JobState.PAUSING
    return job.state
