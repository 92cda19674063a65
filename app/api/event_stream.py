"""Server-sent events: a job's history replayed, then followed, without a query per listener.

One task asks the database a few times a second about all jobs that anyone follows, in one
statement; streams wake up only when theirs has changed.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio.to_thread
import structlog
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import format_sse_event
from sqlalchemy import select
from starlette.types import Receive, Scope, Send

from app.api.schemas.jobs import EventOut
from core.domain import events, jobs
from core.store.db import Database
from core.store.tables import TERMINAL, Job
from topwork.errors import JobNotFound, TooManyRequests

log = structlog.get_logger()
LOOK_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 15.0
RECONNECT_MS = 2000
RETRY_AFTER_SECONDS = 5
BATCH = 500
Sight = tuple[Any, ...]


class Watch:
    """Looks at all followed jobs at once.

    Args:
        database: Where the jobs are.
        stopping: Ends every stream when set.
        most: Streams of one owner.
    """

    def __init__(self, database: Database, stopping: asyncio.Event, most: int) -> None:
        self.database = database
        self.stopping = stopping
        self.most = most
        self._streams: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._listeners: dict[str, int] = {}
        self._seen: dict[str, Sight] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for as long as the context is open."""
        task = asyncio.create_task(self._run(), name="watch")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def stop(self) -> None:
        """End every stream now."""
        self.stopping.set()
        async with self._changed:
            self._changed.notify_all()

    @contextmanager
    def place(self, owner: str) -> Iterator[None]:
        """Count a stream of this owner for as long as it is open.

        Raises:
            TooManyRequests: The owner has too many.
        """
        if self._streams[owner] >= self.most:
            message = f"{self.most} event streams of this owner are open"
            raise TooManyRequests(message, retry_after=RETRY_AFTER_SECONDS)
        self._streams[owner] += 1
        try:
            yield
        finally:
            self._streams[owner] -= 1

    async def change(self, job_id: str, known: Sight | None) -> Sight | None:
        """Return how the job looks once it differs from `known`, or None if it stays the same.

        Gives up after the keep-alive interval, and at once when the process stops.
        """
        differs = lambda: self.stopping.is_set() or self._seen.get(job_id, known) != known  # noqa: E731 - one expression.
        with suppress(TimeoutError):
            async with asyncio.timeout(KEEP_ALIVE_SECONDS), self._changed:
                await self._changed.wait_for(differs)
                return self._seen.get(job_id)
        return None

    @asynccontextmanager
    async def listening(self, job_id: str) -> AsyncIterator[None]:
        """Have this job looked at."""
        self._listeners[job_id] = self._listeners.get(job_id, 0) + 1
        try:
            yield
        finally:
            self._listeners[job_id] -= 1
            if not self._listeners[job_id]:
                del self._listeners[job_id]
                self._seen.pop(job_id, None)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._listeners:
                continue
            try:
                seen = await anyio.to_thread.run_sync(self._look, list(self._listeners))
            except Exception:
                # The database may be away for a while; streams stay open and catch up.
                log.exception("watch.failed")
                continue
            async with self._changed:
                self._seen = {id_: sight for id_, sight in seen.items() if id_ in self._listeners}
                self._changed.notify_all()

    def _look(self, job_ids: list[str]) -> dict[str, Sight]:
        wanted = select(Job.id, Job.last_seq, Job.progress, Job.eta).where(Job.id.in_(job_ids))
        with self.database.read() as session:
            found = {row[0]: tuple(row[1:]) for row in session.execute(wanted)}
        return {job_id: found.get(job_id, ()) for job_id in job_ids}


class EventStream(StreamingResponse):
    """The answer that follows a job; it takes its owner's place when it begins to be sent."""

    media_type = "text/event-stream"

    def __init__(self, watch: Watch, owner: str, events_: AsyncIterator[bytes]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events_, headers=headers)
        self._watch, self._owner = watch, owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or raise TooManyRequests."""
        with self._watch.place(self._owner):
            await super().__call__(scope, receive, send)


def stream(watch: Watch, owner: str, job: Job, seq: int, *, again: bool) -> Response:
    """Answer the owner with the events of a job numbered above `seq`.

    A browser that has seen the last one and connects again gets 204, which tells it to stop.
    """
    if again and job.state in TERMINAL and seq >= job.last_seq:
        return Response(status_code=204)
    return EventStream(watch, owner, follow(watch, job.id, seq))


async def follow(watch: Watch, job_id: str, seq: int) -> AsyncIterator[bytes]:
    """Yield the events numbered above `seq` as they happen, until the job has ended."""
    yield format_sse_event(comment="topwork", retry=RECONNECT_MS)
    known: Sight | None = None
    told: dict[str, Any] = {}
    async with watch.listening(job_id):
        while not watch.stopping.is_set():
            found, now, ended = await anyio.to_thread.run_sync(_after, watch.database, job_id, seq)
            for event in found:
                seq = event.seq
                data = event.model_dump_json()
                yield format_sse_event(data_str=data, event=event.kind, id=str(seq))
            if len(found) == BATCH:
                continue
            if ended:
                return
            if now["data"] != told:
                told = now["data"]
                yield format_sse_event(data_str=json.dumps(now), event="progress")
            changed = await watch.change(job_id, known)
            if changed is None:
                yield format_sse_event(comment="still here")
            known = changed or known


def _after(
    database: Database, job_id: str, seq: int
) -> tuple[list[EventOut], dict[str, Any], bool]:
    """Return the next events, the progress as a passing event, and whether the job has ended."""
    with database.read() as session:
        try:
            # The job before its events: where it has ended, its last event is there too.
            job = jobs.get(session, job_id)
        except JobNotFound:
            return [], {}, True
        found = [EventOut.model_validate(row) for row in events.after(session, job_id, seq, BATCH)]
        progress = {"progress": job.progress, "eta": job.eta, "phase": job.phase}
        now = {"seq": job.last_seq, "kind": "progress", "at": None, "data": progress}
        return found, now, job.state in TERMINAL
