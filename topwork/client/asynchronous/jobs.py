"""`/jobs`, and jobs that can be asked about themselves."""

from collections.abc import AsyncIterator
from typing import Self

from pydantic import PrivateAttr

from topwork.client.asynchronous.transport import AsyncHttp
from topwork.errors import JobFailed, from_dict
from topwork.kinds import JobKind, JobState
from topwork.types import jobs as shapes
from topwork.types.jobs import Event, Metrics


class AsyncJob(shapes.Job):
    """A job as it was when it was asked for; its methods ask the service again."""

    _jobs: "AsyncJobs" = PrivateAttr()

    @property
    def url(self) -> str:
        """Root of the service that has it."""
        return self._jobs.url

    def bind(self, jobs: "AsyncJobs") -> Self:
        """Return this job, able to ask the service it came from."""
        self._jobs = jobs
        return self

    async def refresh(self) -> "AsyncJob":
        """Return the job as it is now."""
        return await self._jobs.get(self.id)

    async def cancel(self) -> "AsyncJob":
        """Ask for the job to stop."""
        return await self._jobs.cancel(self.id)

    async def pause(self) -> "AsyncJob":
        """Let the job rest; one that runs saves a checkpoint first."""
        return await self._jobs.pause(self.id)

    async def resume(self) -> "AsyncJob":
        """Queue the paused job again."""
        return await self._jobs.resume(self.id)

    async def retry(self) -> "AsyncJob":
        """Queue the failed or cancelled job again."""
        return await self._jobs.retry(self.id)

    def stream(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield events from number `after` on until the job has ended."""
        return self._jobs.stream(self.id, after=after)

    async def wait(self) -> "AsyncJob":
        """Return the finished job.

        Raises:
            JobFailed: It failed or was cancelled; `code` and `hint` say why.
        """
        async for _event in self.stream():
            pass
        done = await self.refresh()
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


class AsyncJobs:
    """`/jobs`."""

    def __init__(self, http: AsyncHttp) -> None:
        self._http = http
        self.url = http.url

    async def list(
        self, *, state: JobState | str | None = None, kind: JobKind | str | None = None
    ) -> AsyncIterator[AsyncJob]:
        """Yield jobs, the newest first."""
        async for job in self._http.pages(AsyncJob, "/jobs", state=state, kind=kind):
            yield job.bind(self)

    async def get(self, job: str) -> AsyncJob:
        """Return a job."""
        return await self._act("GET", f"/jobs/{job}")

    async def cancel(self, job: str) -> AsyncJob:
        """Ask for a job to stop; harmless when it has been asked before."""
        return await self._act("POST", f"/jobs/{job}/cancel")

    async def pause(self, job: str) -> AsyncJob:
        """Let a job rest; one that runs saves a checkpoint first."""
        return await self._act("POST", f"/jobs/{job}/pause")

    async def resume(self, job: str) -> AsyncJob:
        """Queue a paused job again; it goes on where it stopped."""
        return await self._act("POST", f"/jobs/{job}/resume")

    async def retry(self, job: str) -> AsyncJob:
        """Queue a failed or cancelled job again."""
        return await self._act("POST", f"/jobs/{job}/retry")

    async def delete(self, job: str) -> None:
        """Delete a job that has ended."""
        await self._http.send("DELETE", f"/jobs/{job}")

    async def logs(self, job: str) -> str:
        """Return what the job's process wrote."""
        response = await self._http.send("GET", f"/jobs/{job}/logs")
        return response.text

    async def metrics(self, job: str) -> Metrics:
        """Return the course of a training so far."""
        return await self._http.ask(Metrics, "GET", f"/jobs/{job}/metrics")

    def events(self, job: str) -> AsyncIterator[Event]:
        """Yield the events so far."""
        return self._http.pages(Event, f"/jobs/{job}/events")

    def stream(self, job: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield events as they happen until the job has ended, also over lost connections."""

        async def ended() -> bool:
            now = await self.get(job)
            return now.terminal

        return self._http.events(Event, f"/jobs/{job}/events", after=after, ended=ended)

    async def _act(self, method: str, path: str) -> AsyncJob:
        job = await self._http.ask(AsyncJob, method, path)
        return job.bind(self)
