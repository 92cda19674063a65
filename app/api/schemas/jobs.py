"""A job and its events as clients see them."""

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from sqlalchemy.orm import Session

from app.api.schemas.values import Answer, Moment
from core.domain import jobs
from core.store.tables import Job

State = Literal[
    "waiting",
    "queued",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "succeeded",
    "failed",
    "cancelled",
]
Kind = Literal["ingest", "finetune", "evaluate", "export", "predict"]
PRIORITY_NAMES = {number: name for name, number in jobs.PRIORITIES.items()}
EXAMPLE: JsonDict = {
    "id": "job_01k9z8v3q7m2c4d6e8f0g2",
    "object": "job",
    "kind": "finetune",
    "state": "running",
    "phase": "training",
    "progress": 0.4,
    "eta": 18.2,
    "queue_position": None,
    "starts_in": None,
    "waiting_for": None,
    "reason": None,
    "dataset": "ds_01k9z8v3q7m2c4d6e8f0g1@1",
    "model": "pets",
    "config": {"architecture": "mobilenet_v2", "strategy": "auto"},
    "plan": {"epochs": {"value": 10, "reason": "the head alone converges quickly"}},
    "priority": "normal",
    "metadata": {"ticket": "42"},
    "attempt": 1,
    "worker": "box-1/4711",
    "owner": "anna",
    "request_id": "req_01k9z8v3q7m2c4d6e8f0g4",
    "created_at": "2026-11-22T09:30:00.000Z",
    "started_at": "2026-11-22T09:30:01.000Z",
    "finished_at": None,
    "result": None,
    "error": None,
    "links": {"self": "/jobs/job_01k9z8v3q7m2c4d6e8f0g2"},
}


class ErrorOut(Answer):
    """Why something failed, in the words of a problem answer."""

    code: str
    message: str
    param: str | None = None
    hint: str | None = None


class WaitingFor(Answer):
    """What a job lacks."""

    lacks: Literal["dataset", "disk", "worker"] = Field(alias="for")
    reason: str


class JobOut(Answer):
    """A unit of work, of any kind."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    object: Literal["job"] = "job"
    kind: Kind
    state: State
    phase: str | None
    """Inside `running`: preparing, training, evaluating, calibrating, publishing."""
    progress: float = Field(ge=0, le=1)
    eta: float | None
    """Seconds left, by the running process's own estimate."""
    queue_position: int | None
    """Jobs that run before this one; null when it is not queued."""
    starts_in: float | None
    """Seconds until a queued job begins, by the estimates of those before it; null if unknown."""
    waiting_for: WaitingFor | None
    """What keeps it from starting, besides jobs that run before it."""
    reason: str | None
    """Why the job is not running, in words."""
    dataset: str | None
    model: str | None
    """Name under which the result is published."""
    config: dict[str, Any]
    plan: dict[str, Any] | None
    """Every `auto` resolved, each with its reason."""
    priority: str
    metadata: dict[str, Any]
    attempt: int
    worker: str | None
    owner: str
    """Whose key asked for it."""
    request_id: str | None
    """Id of the request that submitted it, by which logs name it, too."""
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    result: dict[str, Any] | None
    error: ErrorOut | None
    links: dict[str, str]


class EventOut(Answer):
    """One thing that happened to a job; `seq` rises by one, without gaps."""

    seq: int
    at: Moment
    kind: str
    data: dict[str, Any]


def job_out(session: Session, job: Job) -> JobOut:
    """Return a job as clients see it."""
    config = dict(job.config)
    return JobOut.model_validate(
        {
            "id": job.id,
            "kind": job.kind,
            "state": jobs.display_state(job),
            "phase": job.phase,
            "progress": job.progress,
            "eta": job.eta,
            "queue_position": jobs.queue_position(session, job),
            "starts_in": jobs.starts_in(session, job),
            "waiting_for": jobs.waits_for(session, job),
            "reason": job.reason,
            "dataset": _dataset(job),
            "model": config.pop("name", None),
            "config": config,
            "plan": job.plan,
            "priority": PRIORITY_NAMES[job.priority],
            "metadata": job.user_metadata,
            "attempt": job.attempt,
            "worker": job.worker,
            "owner": job.owner,
            "request_id": job.request_id,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "result": job.result,
            "error": job.error,
            "links": _links(job),
        }
    )


def _dataset(job: Job) -> str | None:
    if job.dataset_id is None or job.dataset_version is None:
        return job.dataset_id
    return f"{job.dataset_id}@{job.dataset_version}"


def _links(job: Job) -> dict[str, str]:
    own = f"/jobs/{job.id}"
    links = {"self": own, "events": f"{own}/events", "logs": f"{own}/logs"}
    if job.kind == "finetune":
        links["metrics"] = f"{own}/metrics"
    if job.dataset_id:
        links["dataset"] = f"/datasets/{job.dataset_id}"
    if job.result and "model" in job.result:
        name, _, number = str(job.result["model"]).partition("@")
        links["model"] = f"/models/{name}/versions/{number}"
    return links
