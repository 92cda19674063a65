"""Database reads for clients that poll, in threads of their own: never behind an upload."""

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from sqlalchemy.orm import Session

from core.store.db import Database
from core.store.row_access import Caller

Found = TypeVar("Found")
AT_ONCE = 4
"""Enough where each takes a millisecond of a processor."""


class Looks:
    """Runs each look in one turn of a thread, and never behind uploads and predictions.

    A session as a dependency takes a thread to open it, one for each dependency that uses it, one
    for the route and one to close it, each time at the end of the queue for the forty threads that
    everything else shares. On a busy service a poll would spend its time in those queues.

    Args:
        database: What is looked at.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = anyio.CapacityLimiter(AT_ONCE)

    async def at(self, caller: Caller, ask: Callable[[Session], Found]) -> Found:
        """Return what `ask` finds in a session that shows only what is the caller's."""

        def look() -> Found:
            with self._database.read(caller) as session:
                return ask(session)

        return await anyio.to_thread.run_sync(look, limiter=self._threads)
