# Written by .ci/client.py, a part of `make format`, from ../asynchronous/jobs.py.
"""`/jobs`, and jobs that can be asked about themselves."""

from collections.abc import Iterator
from typing import Self

from pydantic import PrivateAttr

from topwork.client.synchronous.transport import Http
from topwork.errors import JobFailed, from_dict
from topwork.kinds import JobKind, JobState
from topwork.types import jobs as shapes
from topwork.types.jobs import Event, Metrics


class Job(shapes.Job):
    """A job as it was when it was asked for; its methods ask the service again."""

    _jobs: "Jobs" = PrivateAttr()

    @property
    def url(self) -> str:
        """Root of the service that has it."""
        return self._jobs.url

    def bind(self, jobs: "Jobs") -> Self:
        """Return this job, able to ask the service it came from."""
        self._jobs = jobs
        return self

    def refresh(self) -> "Job":
        """Return the job as it is now."""
        return self._jobs.get(self.id)

    def cancel(self) -> "Job":
        """Ask for the job to stop."""
        return self._jobs.cancel(self.id)

    def pause(self) -> "Job":
        """Let the job rest; one that runs saves a checkpoint first."""
        return self._jobs.pause(self.id)

    def resume(self) -> "Job":
        """Queue the paused job again."""
        return self._jobs.resume(self.id)

    def retry(self) -> "Job":
        """Queue the failed or cancelled job again."""
        return self._jobs.retry(self.id)

    def stream(self, after: int = 0) -> Iterator[Event]:
        """Yield events from number `after` on until the job has ended."""
        return self._jobs.stream(self.id, after=after)

    def wait(self) -> "Job":
        """Return the finished job.

        Raises:
            JobFailed: It failed or was cancelled; `code` and `hint` say why.
        """
        for _event in self.stream():
            pass
        done = self.refresh()
        return done.check()

    def check(self) -> Self:
        """Return this job if it succeeded.

        Raises:
            JobFailed: It failed or was cancelled; its cause is the error of the job's code.
        """
        if self.state == JobState.SUCCEEDED:
            return self
        cause = from_dict(self.error.to_dict()) if self.error else None
        said = cause or JobFailed(f"The job {self.id} is {self.state}.")
        failure = JobFailed(said.message, param=said.param, hint=said.hint)
        failure.code, failure.options = said.code, said.options
        raise failure from cause


class Jobs:
    """`/jobs`."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self.url = http.url

    def list(
        self, *, state: JobState | str | None = None, kind: JobKind | str | None = None
    ) -> Iterator[Job]:
        """Yield jobs, the newest first."""
        for job in self._http.pages(Job, "/jobs", state=state, kind=kind):
            yield job.bind(self)

    def get(self, job: str) -> Job:
        """Return a job."""
        return self._act("GET", f"/jobs/{job}")

    def cancel(self, job: str) -> Job:
        """Ask for a job to stop; harmless when it has been asked before."""
        return self._act("POST", f"/jobs/{job}/cancel")

    def pause(self, job: str) -> Job:
        """Let a job rest; one that runs saves a checkpoint first."""
        return self._act("POST", f"/jobs/{job}/pause")

    def resume(self, job: str) -> Job:
        """Queue a paused job again; it goes on where it stopped."""
        return self._act("POST", f"/jobs/{job}/resume")

    def retry(self, job: str) -> Job:
        """Queue a failed or cancelled job again."""
        return self._act("POST", f"/jobs/{job}/retry")

    def delete(self, job: str) -> None:
        """Delete a job that has ended."""
        self._http.send("DELETE", f"/jobs/{job}")

    def logs(self, job: str) -> str:
        """Return what the job's process wrote."""
        response = self._http.send("GET", f"/jobs/{job}/logs")
        return response.text

    def metrics(self, job: str) -> Metrics:
        """Return the course of a training so far."""
        return self._http.ask(Metrics, "GET", f"/jobs/{job}/metrics")

    def events(self, job: str) -> Iterator[Event]:
        """Yield the events so far."""
        return self._http.pages(Event, f"/jobs/{job}/events")

    def stream(self, job: str, *, after: int = 0) -> Iterator[Event]:
        """Yield events as they happen until the job has ended, also over lost connections."""

        def ended() -> bool:
            now = self.get(job)
            return now.terminal

        return self._http.events(Event, f"/jobs/{job}/events", after=after, ended=ended)

    def _act(self, method: str, path: str) -> Job:
        job = self._http.ask(Job, method, path)
        return job.bind(self)
