"""Jobs, their events and the course of a training."""

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from topwork.kinds import TERMINAL, EventKind, JobKind, JobState, Lack, Phase, Priority
from topwork.types.problems import Error
from topwork.types.values import Answer, Links, Moment, Open

_EXAMPLE: JsonDict = {
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


class WaitingFor(Answer):
    """What a job lacks."""

    lacks: Open[Lack] = Field(alias="for", description="Kind of thing that is not there.")
    reason: str = Field(description="The same in words.")


class PlanValue(Answer):
    """What one `auto`, or one given value, has become."""

    value: Any = Field(description="What is used.")
    reason: str = Field(description="Why.")


class Job(Answer):
    """A unit of work, of any kind."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str = Field(description="`job_...`.")
    object: Literal["job"] = Field("job", description="Always `job`.")
    kind: Open[JobKind] = Field(description="What it does.")
    state: Open[JobState] = Field(description="How far it has come.")
    phase: Open[Phase] | None = Field(description="What it does now, inside `running`.")
    progress: float = Field(ge=0, le=1, description="Share that is done.")
    eta: float | None = Field(description="Seconds left, by the running process's own estimate.")
    queue_position: int | None = Field(
        description="Queued jobs that run before this one in the same lane; null when it is not"
        " queued."
    )
    starts_in: float | None = Field(
        description="Seconds until a queued job begins, by the estimates of those before it; null"
        " if unknown."
    )
    waiting_for: WaitingFor | None = Field(
        description="What keeps it from starting: its data set, a worker, disk space, or the job"
        " that holds the slot."
    )
    reason: str | None = Field(description="Why the job is not running, in words.")
    dataset: str | None = Field(description="`ds_...@version` that it reads or makes.")
    model: str | None = Field(description="Name under which the result is published.")
    config: dict[str, Any] = Field(description="What was asked for.")
    plan: dict[str, PlanValue] | None = Field(
        description="Every `auto` resolved, each with its reason; null while it is not known."
    )
    priority: Open[Priority] = Field(description="Which queued jobs run first.")
    metadata: dict[str, Any] = Field(description="Values of the sender's own.")
    attempt: int = Field(description="How often a worker has taken it.")
    worker: str | None = Field(description="Which worker runs it.")
    owner: str = Field(description="Whose key asked for it.")
    request_id: str | None = Field(
        description="Id of the request that submitted it, by which logs name it, too."
    )
    created_at: Moment = Field(description="When it was submitted.")
    started_at: Moment | None = Field(description="When a worker took it first.")
    finished_at: Moment | None = Field(description="When it ended.")
    result: dict[str, Any] | None = Field(
        description="What it has published, once it succeeded; `files` that an early end has kept."
    )
    error: Error | None = Field(description="Why it failed.")
    links: Links

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in TERMINAL


class Event(Answer):
    """One thing that happened to a job; `seq` rises by one, without gaps."""

    seq: int = Field(description="Number in the job's history.")
    at: Moment | None = Field(description="When; null in what passes and is no history.")
    kind: Open[EventKind] = Field(description="What it is about.")
    data: dict[str, Any] = Field(description="What happened; its fields depend on the kind.")


class Epoch(Answer):
    """One pass over the training images; what was not measured is null."""

    epoch: int = Field(description="Number, from 1 on, over all stages.")
    stage: str | None = Field(None, description="`head`, `full`, `gradual` or `refit`.")
    train_loss: float | None = Field(None, description="Mean loss of its steps.")
    lr: float | None = Field(None, description="Learning rate of its last step.")
    val_loss: float | None = Field(None, description="Loss on the validation images.")
    val_accuracy: float | None = Field(None, description="Share of them that is right.")
    val_macro_f1: float | None = Field(None, description="Mean F1 of the classes.")
    seconds: float | None = Field(None, description="Time of its steps and its validation.")
    images_per_second: float | None = Field(None, description="Training images by that time.")


class Metrics(Answer):
    """The course of a training so far."""

    object: Literal["metrics"] = Field("metrics", description="Always `metrics`.")
    job: str = Field(description="Id of the job.")
    epochs: list[Epoch] = Field(description="One entry for each finished epoch.")
