"""The cache loads once, keeps what was used last, and forgets failures."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.predictor.model_cache import ModelCache

Cache = ModelCache[str, str]


class Loader:
    """Counts loads; the model of `aaa` weighs 3."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    def of(self, name: str) -> Callable[[], Awaitable[str]]:
        async def load() -> str:
            self.loads.append(name)
            await self.open.wait()
            if name == "bad":
                message = "cannot be loaded"
                raise OSError(message)
            return name

        return load


def trial(work: Callable[[Cache, Loader], Awaitable[None]], capacity: int = 5) -> None:
    async def run() -> None:
        await asyncio.wait_for(work(ModelCache(len, capacity), Loader()), 10)

    asyncio.run(run())


def test_what_was_used_last_stays() -> None:
    async def work(cache: Cache, loader: Loader) -> None:
        for name in ("aa", "bb", "aa", "cc"):
            assert await cache.get(name, loader.of(name)) == name
        assert ("aa" in cache, "bb" in cache, "cc" in cache) == (True, False, True)
        assert loader.loads == ["aa", "bb", "cc"]
        assert cache.nbytes == 4
        assert cache.evictions == 1

    trial(work)


def test_a_model_larger_than_the_cache_is_kept_alone() -> None:
    async def work(cache: Cache, loader: Loader) -> None:
        for name in ("a", "b", "large model"):
            await cache.get(name, loader.of(name))
        assert len(cache) == 1
        assert "large model" in cache
        await cache.get("a", loader.of("a"))
        assert len(cache) == 1

    trial(work)


def test_many_requests_share_one_load() -> None:
    async def work(cache: Cache, loader: Loader) -> None:
        loader.open.clear()
        tasks = [asyncio.create_task(cache.get("a", loader.of("a"))) for _ in range(9)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        loader.open.set()
        assert await asyncio.gather(*tasks[1:]) == ["a"] * 8
        assert loader.loads == ["a"]
        assert tasks[0].cancelled()

    trial(work)


def test_a_failed_load_reaches_everyone_and_is_tried_again() -> None:
    async def work(cache: Cache, loader: Loader) -> None:
        tasks = [asyncio.create_task(cache.get("bad", loader.of("bad"))) for _ in range(2)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in done] == [OSError, OSError]
        with pytest.raises(OSError, match="cannot be loaded"):
            await cache.get("bad", loader.of("bad"))
        assert loader.loads == ["bad", "bad"]
        assert len(cache) == 0

    trial(work)
