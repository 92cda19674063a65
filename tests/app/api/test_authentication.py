"""Whether any key exists is asked before each request without one; many ask together."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from app.api.authentication import Credentials
from core.domain import keys
from core.store.resources import Resources
from tests.waiting import wait_for


class Looked:
    """Counts the looks; the first may be held between its answer and its asker."""

    def __init__(self) -> None:
        self.times = 0
        self.gate = threading.Event()

    def __call__(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT") and "api_key" in statement:
            self.times += 1
            if self.times == 1:
                assert self.gate.wait(30)


@contextmanager
def watched(resources: Resources) -> Iterator[Looked]:
    looked = Looked()
    event.listen(resources.database.engine, "after_cursor_execute", looked)
    yield looked
    event.remove(resources.database.engine, "after_cursor_execute", looked)


async def until(looked: Looked) -> None:
    """Wait until the first look is held."""
    await asyncio.to_thread(wait_for, lambda: looked.times, 30)


def test_all_who_wait_share_a_look(resources: Resources) -> None:
    async def ask() -> list[bool]:
        credentials = Credentials(resources.settings)
        first = asyncio.create_task(credentials.exist(resources.database))
        await until(looked)
        many = [asyncio.create_task(credentials.exist(resources.database)) for _ in range(50)]
        await asyncio.sleep(0)  # All of them have asked now.
        many[0].cancel()
        looked.gate.set()
        return await asyncio.gather(first, *many[1:])

    with watched(resources) as looked:
        assert not any(asyncio.run(ask()))
    assert looked.times == 2


def test_a_key_counts_as_soon_as_it_is_made(resources: Resources) -> None:
    async def ask() -> list[bool]:
        credentials = Credentials(resources.settings)
        early = asyncio.create_task(credentials.exist(resources.database))
        await until(looked)
        with resources.database.write() as session:
            keys.create(session, owner="anna", scopes=["admin"])
        late = asyncio.create_task(credentials.exist(resources.database))
        await asyncio.sleep(0)
        looked.gate.set()
        return list(await asyncio.gather(early, late))

    with watched(resources) as looked:
        assert asyncio.run(ask()) == [False, True]


def test_a_look_that_fails_lets_nobody_in(resources: Resources) -> None:
    class Away:
        def read(self) -> Any:
            raise OperationalError("SELECT", {}, Exception("away"))

    async def ask() -> None:
        credentials = Credentials(resources.settings)
        away: Any = Away()
        answers = await asyncio.gather(
            *(credentials.exist(away) for _ in range(3)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [OperationalError] * 3
        assert not await credentials.exist(resources.database)

    asyncio.run(ask())
    with resources.database.write() as session:
        keys.create(session, owner="anna", scopes=["admin"])
    assert asyncio.run(Credentials(resources.settings).exist(resources.database))


@pytest.fixture(autouse=True)
def _prompt(resources: Resources) -> None:
    """Open the first connection, whose own statements are none of the tests' business."""
    with resources.database.read() as session:
        keys.any_exists(session)
