"""What the service answers, as typed objects; fields that a newer service adds are kept."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from topwork.client.errors import JobFailed, describe

if TYPE_CHECKING:
    from topwork.client.service import Topwork

TERMINAL = ("succeeded", "failed", "cancelled")


class Record(BaseModel):
    """An object of the API."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Event(Record):
    """One thing that happened to a job."""

    seq: int
    kind: str
    at: datetime | None = None
    data: dict[str, Any] = {}


class Job(Record):
    """A unit of work; `refresh`, `wait`, `stream` and `cancel` ask the service again."""

    id: str
    kind: str = "finetune"
    state: str
    phase: str | None = None
    progress: float = 0.0
    eta: float | None = None
    queue_position: int | None = None
    attempt: int = 0
    dataset: str | None = None
    model: str | None = None
    plan: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    _topwork: "Topwork" = PrivateAttr()

    @property
    def url(self) -> str:
        """Root of the service that has it."""
        return self._topwork.http.url

    def bind(self, topwork: "Topwork") -> Self:
        """Return this job, able to ask the service it came from."""
        self._topwork = topwork
        return self

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in TERMINAL

    def refresh(self) -> "Job":
        """Return the job as it is now."""
        return self._topwork.jobs.get(self.id)

    def cancel(self) -> "Job":
        """Ask for the job to stop."""
        return self._topwork.jobs.cancel(self.id)

    def pause(self) -> "Job":
        """Let the job rest; one that runs saves a checkpoint first."""
        return self._topwork.jobs.pause(self.id)

    def resume(self) -> "Job":
        """Queue the paused job again."""
        return self._topwork.jobs.resume(self.id)

    def stream(self, after: int = 0) -> Iterator[Event]:
        """Yield events from number `after` on until the job has ended."""
        return self._topwork.jobs.stream(self.id, after=after)

    def wait(self) -> "Job":
        """Return the finished job.

        Raises:
            JobFailed: It failed or was cancelled; `code` and `hint` say why.
        """
        for _event in self.stream():
            pass
        return self.refresh().check()

    def check(self) -> Self:
        """Return this job if it succeeded.

        Raises:
            JobFailed: It failed or was cancelled.
        """
        if self.state == "succeeded":
            return self
        error = self.error or {}
        failure = JobFailed(
            error.get("message") or f"The job {self.id} is {self.state}.",
            param=error.get("param"),
            hint=error.get("hint"),
        )
        if error.get("code"):
            describe(failure, code=error["code"])
        raise failure


class Dataset(Record):
    """A named set of labelled images."""

    id: str
    name: str | None = None
    state: str | None = None
    latest: dict[str, Any] | None = None


class Model(Record):
    """A name under which versions of a classifier are published."""

    name: str
    source: str = "own"
    architecture: str | None = None
    latest: int | None = None
    aliases: dict[str, int] = {}


class ApiKey(Record):
    """A key; `key` itself is there only in the answer that made it."""

    id: str
    owner: str
    scopes: list[str]
    name: str | None = None
    key: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class Ranked(Record):
    """One class of a ranking."""

    label: str
    index: int
    confidence: float


class Result(Record):
    """What the service says about one image."""

    filename: str | None = None
    status: str
    label: str | None = None
    confidence: float | None = None
    decision: str | None = None
    predictions: list[Ranked] = []
    error: dict[str, Any] | None = None


class Prediction(Record):
    """Answers in the order of the images; indexing gives one of them."""

    model: dict[str, Any] = {}
    results: list[Result]
    timing_ms: dict[str, float] = {}

    def __getitem__(self, position: int) -> Result:
        """Return the answer about one image."""
        return self.results[position]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.results)
