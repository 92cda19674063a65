"""What users do with jobs: submit, look, pause, resume, cancel, retry, delete."""

from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from core.domain import datasets, events, job_states, workers
from core.store.pagination import page_of
from core.store.row_access import EVERYONE, request_of
from core.store.tables import Dataset, Job, JobEvent, ModelVersion
from topwork.errors import JobNotFound, StateConflict

PRIORITIES = {"high": 0, "normal": 1, "low": 2}


def submit(
    session: Session,
    *,
    kind: str,
    config: dict[str, Any],
    dataset_id: str | None = None,
    dataset_version: int | None = None,
    priority: str = "normal",
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
        priority=PRIORITIES[priority],
        user_metadata=metadata or {},
        plan=plan,
        request_id=request_of(session),
        state="waiting" if waits else "queued",
        last_seq=0,
        fence=0,
        attempt=0,
    )
    session.add(job)
    session.flush()
    events.append(session, job, "state", {"state": job.state, "attempt": 0})
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
    for column, value in ((Job.state, state), (Job.kind, kind), (Job.dataset_id, dataset)):
        if value is not None:
            wanted = wanted.where(column == value)
    return page_of(session, wanted, Job.id, limit=limit, after=after, order=order)


def cancel(session: Session, job_id: str) -> Job:
    """Cancel a job: at once where nothing runs yet, else by asking its worker.

    Raises:
        StateConflict: The job has already succeeded or failed.
    """
    job = get(session, job_id, lock=True)
    if job.state == "cancelled":
        return job
    if job_states.terminal(job):
        raise StateConflict(f"the job has already {job.state}")
    if job.state == "running":
        if job.cancel_requested_at is None:
            job.cancel_requested_at = job_states.now(session)
            events.append(session, job, "cancel_requested", {})
    else:
        job_states.finish(session, job, "cancelled")
    return job


def pause(session: Session, job_id: str) -> Job:
    """Let a job rest: at once where nothing runs yet, else after its worker saved a checkpoint.

    Raises:
        StateConflict: The job has ended.
    """
    job = _open(session, job_id)
    if job.state == "running":
        if job.pause_requested_at is None:
            job.pause_requested_at = job_states.now(session)
            events.append(session, job, "pause_requested", {})
    elif job.state != "paused":
        job_states.move(session, job, "paused")
    return job


def resume(session: Session, job_id: str) -> Job:
    """Queue a paused job again, or withdraw the wish to pause it; it goes on where it stopped.

    Raises:
        StateConflict: The job has ended.
    """
    job = _open(session, job_id)
    if job.state == "paused":
        _queue(session, job)
    elif job.pause_requested_at is not None:
        job.pause_requested_at = None
        events.append(session, job, "resume_requested", {})
    return job


def retry(session: Session, job_id: str) -> Job:
    """Queue a failed or cancelled job again; it goes on from its last checkpoint.

    Raises:
        StateConflict: The job has not ended, or has succeeded.
    """
    job = get(session, job_id, lock=True)
    if job.state not in ("failed", "cancelled"):
        raise StateConflict(f"a job that is {job.state} cannot be retried")
    job.error = job.finished_at = job.cancel_requested_at = None
    job.stalls = job.losses = job.shortages = 0
    job.fault = None
    dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
    if job.kind == "ingest" and dataset is not None:
        dataset.state, dataset.error = "ingesting", None
    _queue(session, job)
    return job


def _open(session: Session, job_id: str) -> Job:
    job = get(session, job_id, lock=True)
    if job_states.terminal(job):
        raise StateConflict(f"the job has already {job.state}")
    return job


def _queue(session: Session, job: Job) -> None:
    """Queue a job, or let it wait where its dataset is not ready."""
    dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
    if job.kind != "ingest" and dataset is not None and dataset.state != "ready":
        job_states.move(session, job, "waiting")
        job_states.release_waiting(session, job, dataset)
        return
    if job.kind != "ingest" and dataset is not None and job.dataset_version is None:
        job.dataset_version = datasets.versions(session, dataset.id)[0].number
    job_states.move(session, job, "queued")


def delete(session: Session, job_id: str) -> None:
    """Forget a job that has ended, with its events; what it published stays.

    Raises:
        StateConflict: The job has not ended.
    """
    job = get(session, job_id, lock=True)
    if not job_states.terminal(job):
        raise StateConflict("cancel the job first")
    for version in session.scalars(select(ModelVersion).where(ModelVersion.job_id == job.id)):
        version.job_id = None
    session.flush()
    session.execute(sql_delete(JobEvent).where(JobEvent.job_id == job.id))
    session.delete(job)


def queue_position(session: Session, job: Job) -> int | None:
    """Return how many queued jobs of anybody run before this one; None when it is not queued."""
    if job.state != "queued":
        return None
    count = select(func.count()).select_from(Job).where(Job.state == "queued", _earlier(job))
    return session.execute(count, execution_options=EVERYONE).scalar_one()


def _earlier(job: Job) -> ColumnElement[bool]:
    return or_(Job.priority < job.priority, and_(Job.priority == job.priority, Job.id < job.id))


def starts_in(session: Session, job: Job) -> float | None:
    """Return in how many seconds a queued job begins, by the estimates of what comes before it.

    None when it is not queued, no worker is there, or a job before it has no estimate.
    """
    slots = workers.slots(session) if job.state == "queued" else 0
    if not slots:
        return None
    planned = Job.plan["eta_seconds"]["value"].as_float() * (1.0 - Job.progress)
    left = func.coalesce(Job.eta, planned)
    before = or_(Job.state == "running", and_(Job.state == "queued", _earlier(job)))
    sums = select(func.count(), func.count(left), func.sum(left)).select_from(Job).where(before)
    row = session.execute(sums, execution_options=EVERYONE).one()
    number, known, seconds = int(row[0]), int(row[1]), float(row[2] or 0.0)
    if number < slots:  # One of them is free.
        return 0.0
    return round(seconds / slots, 1) if known == number else None


def waits_for(session: Session, job: Job) -> dict[str, str] | None:
    """Return what keeps a job from starting, `{"for": dataset|disk|worker, "reason": ...}`."""
    if job.state == "waiting":
        return {"for": "dataset", "reason": f"the dataset {job.dataset_id} is being read"}
    if job.state != "queued":
        return None
    if job.lacks is not None:
        return {"for": job.lacks, "reason": job.reason or ""}
    if not workers.slots(session):
        return {"for": "worker", "reason": "no worker has been seen for a minute"}
    return None


def count(session: Session, *states: str) -> int:
    """Return how many jobs of anybody are in any of these states."""
    matching = select(func.count()).select_from(Job).where(Job.state.in_(states))
    return session.execute(matching, execution_options=EVERYONE).scalar_one()


def display_state(job: Job) -> str:
    """Return the state as users see it: a running job may be cancelling or pausing."""
    if job.state == "running" and job.cancel_requested_at is not None:
        return "cancelling"
    if job.state == "running" and job.pause_requested_at is not None:
        return "pausing"
    return job.state
