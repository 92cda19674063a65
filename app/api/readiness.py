"""Readiness: whether each part of the service answers, asked at most once a second."""

import os
import tempfile
import time
from collections.abc import Callable

import anyio
import anyio.to_thread
import httpx2
from sqlalchemy import text

from app.api.predictor_client import PredictorClient
from core.store.resources import Resources

NEEDED = ("database", "storage", "predictor")
LONGEST_CHECK = 2.0
FRESH_SECONDS = 1.0


class Readiness:
    """The last look at database, storage, broker and predictor; used on the event loop only.

    Anybody may ask without a key, so asking must cost the parts nothing.
    """

    def __init__(self, resources: Resources, predictor: PredictorClient) -> None:
        self._resources, self._predictor = resources, predictor
        self._looking = anyio.Lock()
        self._found: dict[str, str] = {}
        self._fresh_until = 0.0

    async def check(self) -> dict[str, str]:
        """Return `ok` or what is wrong for each part; takes two seconds at most."""
        async with self._looking:
            if time.monotonic() >= self._fresh_until:
                self._found = await self._look()
                self._fresh_until = time.monotonic() + FRESH_SECONDS
            return self._found

    async def _look(self) -> dict[str, str]:
        parts = {"database": _database, "storage": _storage, "broker": _broker}
        found: dict[str, str] = dict.fromkeys((*parts, "predictor"), "no answer")

        async def look(name: str) -> None:
            with anyio.move_on_after(LONGEST_CHECK):
                found[name] = await anyio.to_thread.run_sync(
                    _tried, parts[name], self._resources, abandon_on_cancel=True
                )

        async def look_at_predictor() -> None:
            try:
                answer = await self._predictor.get("/healthz", timeout=LONGEST_CHECK)
                found["predictor"] = "ok" if answer.is_success else str(answer.status_code)
            except httpx2.TransportError:
                found["predictor"] = "no answer: it is away, or starts"

        async with anyio.create_task_group() as group:
            for name in parts:
                group.start_soon(look, name)
            group.start_soon(look_at_predictor)
        return found


def _tried(part: Callable[[Resources], None], resources: Resources) -> str:
    try:
        part(resources)
    except Exception as error:  # noqa: BLE001 - whatever it is, the part is not well.
        return type(error).__name__
    return "ok"


def _database(resources: Resources) -> None:
    with resources.database.read() as session:
        session.execute(text("SELECT 1"))


def _storage(resources: Resources) -> None:
    resources.storage.exists("health/check")
    for folder in {
        resources.settings.data_dir,
        resources.storage.root or resources.settings.data_dir,
    }:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
            os.fsync(file.fileno())


def _broker(resources: Resources) -> None:
    with resources.celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=0, timeout=1)
