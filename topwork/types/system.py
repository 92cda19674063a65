"""Health and load of a service."""

from typing import Literal

from pydantic import Field

from topwork.kinds import JobKind, JobState, Phase
from topwork.types.values import Answer, Open


class Health(Answer):
    """That the process answers."""

    status: Literal["ok"] = Field("ok", description="Always `ok`.")


class Readiness(Answer):
    """Whether requests can be served, and how each part is."""

    status: Literal["ready", "unavailable"] = Field(description="Whether they can.")
    checks: dict[str, str] = Field(description="`ok`, or what is wrong, for each part.")


class Queue(Answer):
    """What waits."""

    object: Literal["queue"] = Field("queue", description="Always `queue`.")
    states: dict[Open[JobState], int] = Field(description="Jobs in each state.")
    queued: dict[Open[JobKind], int] = Field(description="Queued jobs of each kind.")
    oldest_seconds: float | None = Field(description="Age of the one that has waited longest.")


class WorkerJob(Answer):
    """A job that a worker holds."""

    id: str = Field(description="`job_...`.")
    kind: Open[JobKind] = Field(description="What it does.")
    phase: Open[Phase] | None = Field(description="What it does now.")
    progress: float = Field(description="Share that is done.")


class Worker(Answer):
    """A worker that has been seen lately, or holds a job."""

    id: str = Field(description="Host, process and a random part.")
    object: Literal["worker"] = Field("worker", description="Always `worker`.")
    slots: int | None = Field(
        description="Long jobs it runs at once, beside short ones; null once it is away."
    )
    alive: bool = Field(description="Whether it has been seen lately.")
    jobs: list[WorkerJob] = Field(description="What it runs.")
