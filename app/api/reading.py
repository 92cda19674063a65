"""How routes read the database: each read takes one turn of a thread that is there for reads alone.

A session as a dependency takes a thread to open it, one for each dependency that uses it, one for
the route and one to close it, each time at the end of the queue for the forty threads that uploads
and predictions share. On a busy service a client that polls would spend its time in those queues.
"""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy.orm import Session

from core.store.db import Database
from core.store.row_access import Caller

Answer = TypeVar("Answer")
Rest = ParamSpec("Rest")
READERS = 24
"""Fewer than the connections that a process keeps to its database."""


class Reader:
    """Reads as one caller, on the event loop: `await read(jobs.get, job_id)`.

    Args:
        database: What is read.
        caller: Whose rows are shown.
        threads: What limits the reads of a process.
    """

    def __init__(self, database: Database, caller: Caller, threads: anyio.CapacityLimiter) -> None:
        self._database, self._caller, self._threads = database, caller, threads

    async def __call__(
        self,
        query: Callable[Concatenate[Session, Rest], Answer],
        *arguments: Rest.args,
        **options: Rest.kwargs,
    ) -> Answer:
        """Return what a query answers; its session is closed by then, and the rows are detached."""

        def turn() -> Answer:
            with self._database.read(self._caller) as session:
                return query(session, *arguments, **options)

        return await anyio.to_thread.run_sync(turn, limiter=self._threads)
