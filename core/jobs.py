"""What users do with jobs: submit, look, cancel, retry, delete."""

from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from core import events, transitions
from core.errors import JobNotFound, StateConflict
from core.owners import EVERYONE
from core.tables import Dataset, Job, JobEvent, ModelVersion

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
    if after is not None:
        wanted = wanted.where(Job.id < after if order == "desc" else Job.id > after)
    wanted = wanted.order_by(Job.id.desc() if order == "desc" else Job.id).limit(limit + 1)
    rows = list(session.scalars(wanted))
    return rows[:limit], len(rows) > limit


def cancel(session: Session, job_id: str) -> Job:
    """Cancel a job: at once where nothing runs yet, else by asking its worker.

    Raises:
        StateConflict: The job has already succeeded or failed.
    """
    job = get(session, job_id, lock=True)
    if job.state == "cancelled":
        return job
    if transitions.terminal(job):
        raise StateConflict(f"the job has already {job.state}")
    if job.state == "running":
        if job.cancel_requested_at is None:
            job.cancel_requested_at = transitions.now(session)
            events.append(session, job, "cancel_requested", {})
    else:
        transitions.finish(session, job, "cancelled")
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
    job.stalls = 0
    dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
    if job.kind == "ingest" and dataset is not None:
        dataset.state, dataset.error = "ingesting", None
        transitions.move(session, job, "queued")
    elif dataset is not None and dataset.state != "ready":
        transitions.move(session, job, "waiting")
        transitions.release_waiting(session, job, dataset)
    else:
        transitions.move(session, job, "queued")
    return job


def delete(session: Session, job_id: str) -> None:
    """Forget a job that has ended, with its events; what it published stays.

    Raises:
        StateConflict: The job has not ended.
    """
    job = get(session, job_id, lock=True)
    if not transitions.terminal(job):
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
    earlier = or_(Job.priority < job.priority, and_(Job.priority == job.priority, Job.id < job.id))
    count = select(func.count()).select_from(Job).where(Job.state == "queued", earlier)
    return session.execute(count, execution_options=EVERYONE).scalar_one()


def count(session: Session, *states: str) -> int:
    """Return how many jobs of anybody are in any of these states."""
    matching = select(func.count()).select_from(Job).where(Job.state.in_(states))
    return session.execute(matching, execution_options=EVERYONE).scalar_one()


def display_state(job: Job) -> str:
    """Return the state as users see it: a running job that was asked to stop is cancelling."""
    asked = job.state == "running" and job.cancel_requested_at is not None
    return "cancelling" if asked else job.state
