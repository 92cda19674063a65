"""Who decodes next, on threads that wait for the test."""

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from PIL import Image

from app.predictor import decoding
from app.predictor.decoding import BYTES_PER_PIXEL, LARGE_WEIGHT, Decoding, Lane
from core.imaging.decode import ImageLimits, OpenImage
from topwork.errors import ImageUndecodable, PredictorBusy, TooManyRequests


class Stage:
    """Work that begins and ends when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._gates: dict[str, threading.Event] = {}

    def work(self, name: str) -> Callable[[], str]:
        gate = self._gates.setdefault(name, threading.Event())

        def run() -> str:
            self.begun.append(name)
            assert gate.wait(20)
            return name

        return run

    def end(self, *names: str) -> None:
        for name in names:
            self._gates[name].set()

    async def has_begun(self, *names: str) -> None:
        async with asyncio.timeout(20):
            while not set(names) <= set(self.begun):  # noqa: ASYNC110 - threads tell no loop.
                await asyncio.sleep(0.001)


def trial(test: Callable[[Stage], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(Stage()), 60))


def start(job: Coroutine[Any, Any, str]) -> "asyncio.Task[str]":
    return asyncio.ensure_future(job)


async def asked(
    lane: Lane, owner: str, weight: int, work: Callable[[], str]
) -> "asyncio.Task[str]":
    """Return a task that has come as far as waiting for its turn."""
    task = start(lane.run(owner, weight, work))
    await asyncio.sleep(0)
    return task


def test_an_owner_with_one_image_does_not_wait_for_all_of_another() -> None:
    async def test(stage: Stage) -> None:
        lane = Lane("test", 1, 10**9)
        tasks = [await asked(lane, "anna", 5, stage.work(f"anna {n}")) for n in range(5)]
        tasks.append(await asked(lane, "bert", 100, stage.work("bert")))
        tasks.append(await asked(lane, "bert", 100, stage.work("bert again")))
        stage.end(*(f"anna {n}" for n in range(5)), "bert", "bert again")
        await asyncio.gather(*tasks)
        assert stage.begun[:2] == ["anna 0", "bert"]
        assert stage.begun[-1] == "bert again"  # A hundred of his are more than all of hers.
        lane.close()

    trial(test)


def test_who_comes_later_has_saved_nothing_up() -> None:
    async def test(stage: Stage) -> None:
        lane = Lane("test", 1, 10**9)
        tasks = [await asked(lane, "anna", 5, stage.work(f"anna {n}")) for n in range(6)]
        stage.end("anna 0", "anna 1", "anna 2")
        await stage.has_begun("anna 3")
        tasks += [await asked(lane, "bert", 5, stage.work(f"bert {n}")) for n in range(4)]
        stage.end(*(f"anna {n}" for n in range(3, 6)), *(f"bert {n}" for n in range(4)))
        await asyncio.gather(*tasks)
        owners = [name.split()[0] for name in stage.begun[4:]]
        assert set(owners[:2]) == {"anna", "bert"}
        lane.close()

    trial(test)


def test_memory_is_shared_out_and_what_needs_more_goes_alone() -> None:
    async def test(stage: Stage) -> None:
        lane = Lane("test", 3, 10 * BYTES_PER_PIXEL)
        tasks = [
            await asked(lane, owner, weight, stage.work(owner))
            for owner, weight in (("six", 6), ("four", 4), ("much", 99))
        ]
        await stage.has_begun("six", "four")
        stage.end("six")
        assert await tasks[0] == "six"
        assert stage.begun == ["six", "four"]
        stage.end("four", "much")
        await asyncio.gather(*tasks)
        assert stage.begun[-1] == "much"
        lane.close()

    trial(test)


def test_an_image_that_is_not_begun_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PATIENCE_SECONDS", 0.05)

    async def test(stage: Stage) -> None:
        lane = Lane("test", 1, 10**9)
        first = await asked(lane, "anna", 1, stage.work("first"))
        await stage.has_begun("first")
        with pytest.raises(PredictorBusy):
            await lane.run("bert", 1, stage.work("late"))
        stage.end("first")
        assert await first == "first"  # It had begun, so it is not given up.
        stage.end("late")
        assert await lane.run("bert", 1, stage.work("late")) == "late"
        assert stage.begun == ["first", "late"]
        lane.close()

    trial(test)


def test_what_nobody_waits_for_is_not_begun_and_a_thread_is_free_when_it_is_free() -> None:
    async def test(stage: Stage) -> None:
        lane = Lane("test", 1, 10**9)
        tasks = [await asked(lane, "anna", 1, stage.work(name)) for name in ("a", "b", "c")]
        await stage.has_begun("a")
        for task in tasks[:2]:
            task.cancel()
        await asyncio.gather(*tasks[:2], return_exceptions=True)
        assert stage.begun == ["a"]  # Its thread is still at work, so the next one waits.
        stage.end("a", "c")
        assert await tasks[2] == "c"
        assert stage.begun == ["a", "c"]
        lane.close()

    trial(test)


def test_what_work_raises_reaches_whoever_asked() -> None:
    async def test(_stage: Stage) -> None:
        lane = Lane("test", 1, 10**9)

        def broken() -> None:
            raise ImageUndecodable

        for _ in range(2):
            with pytest.raises(ImageUndecodable):
                await lane.run("anna", 1, broken)
        lane.close()

    trial(test)


def picture(side: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 9)).save(out, kind)
    return out.getvalue()


def test_a_small_image_does_not_wait_for_large_ones() -> None:
    async def test(stage: Stage) -> None:
        here = Decoding(ImageLimits(), 1)
        data = memoryview(picture(8))

        def crop(name: str) -> Callable[[OpenImage], str]:
            work = stage.work(name)
            return lambda _image: work()

        large = [
            start(here.decode("anna", LARGE_WEIGHT + 1, data, crop(f"large {n}"))) for n in range(3)
        ]
        await stage.has_begun("large 0")
        small = start(here.decode("anna", 64, data, crop("small")))
        await stage.has_begun("small")
        stage.end("small", *(f"large {n}" for n in range(3)))
        assert await small == "small"
        await asyncio.gather(*large)
        here.close()

    trial(test)


def test_images_are_weighed_by_their_headers() -> None:
    async def test(_stage: Stage) -> None:
        here = Decoding(ImageLimits(max_pixels=10_000), 1)
        files = [picture(100), picture(100, "JPEG"), picture(101), b"no image"]
        png, jpeg, large, none = await here.weigh([memoryview(data) for data in files])
        assert (png, jpeg) == (10_000, 2_500)
        assert [getattr(error, "code", "") for error in (large, none)] == [
            "image_too_large",
            "image_undecodable",
        ]
        here.close()

    trial(test)


def test_an_owner_has_only_so_many_pixels_waiting() -> None:
    async def test(_stage: Stage) -> None:
        here = Decoding(ImageLimits(max_pixels=100), 1)
        most = decoding.SHARE * 100
        with here.admitted("anna", most):
            with pytest.raises(TooManyRequests) as refused, here.admitted("anna", 1):
                pass
            assert refused.value.retry_after == decoding.RETRY_AFTER_SECONDS
            with here.admitted("bert", 2 * most):  # Of a single request, there is no less.
                pass
        with here.admitted("anna", 1):
            pass
        here.close()

    trial(test)
