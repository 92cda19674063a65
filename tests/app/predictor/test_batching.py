"""Batches form while a pass is under way, keep their order, and carry failures to their own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from app.predictor.batching import Batcher, Done

Calls = list[tuple[str, list[int]]]


class Gate:
    """A forward pass that the test lets through, one batch at a time."""

    def __init__(self) -> None:
        self.calls: Calls = []
        self.entered = threading.Semaphore(0)
        self.passes = threading.Semaphore(0)

    def __call__(self, key: str, items: Sequence[int]) -> list[int]:
        self.calls.append((key, list(items)))
        self.entered.release()
        assert self.passes.acquire(timeout=10)
        if 13 in items:
            message = "unlucky"
            raise RuntimeError(message)
        return [item * 10 for item in items]

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


def trial(
    work: Callable[[Gate, Batcher[str, int, int]], Awaitable[None]], **options: float
) -> Gate:
    gate = Gate()

    async def run() -> None:
        batcher = Batcher(gate, largest=4, **options)  # type: ignore[arg-type]
        try:
            await asyncio.wait_for(work(gate, batcher), 10)
        finally:
            await batcher.close()

    asyncio.run(run())
    return gate


async def held_back(gate: Gate, batcher: Batcher[str, int, int]) -> asyncio.Task[Done[int]]:
    """Submit an item that waits for another one, and give that one up."""
    gate.passes.release(9)
    with batcher.coming("a"):
        task = asyncio.create_task(batcher.submit("a", 1))
        for _ in range(9):
            await asyncio.sleep(0)
        assert gate.calls == []
    return task


def test_the_first_goes_alone_and_what_waits_meanwhile_together() -> None:
    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        first = asyncio.create_task(batcher.submit("a", 0))
        await gate.reached()
        others = [asyncio.create_task(batcher.submit("a", number)) for number in range(1, 7)]
        await asyncio.sleep(0)
        gate.passes.release(3)
        done = await asyncio.gather(first, *others)
        assert [one.answer for one in done] == [0, 10, 20, 30, 40, 50, 60]
        assert done[1].began == done[4].began != done[5].began
        assert all(one.began <= one.ended for one in done)

    assert trial(work).calls == [("a", [0]), ("a", [1, 2, 3, 4]), ("a", [5, 6])]


def test_models_take_turns_by_arrival_and_never_mix() -> None:
    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        tasks = [asyncio.create_task(batcher.submit("a", 0))]
        await gate.reached()
        for key, item in (("b", 1), ("a", 2), ("b", 3), ("c", 4)):
            tasks.append(asyncio.create_task(batcher.submit(key, item)))
            await asyncio.sleep(0)
        gate.passes.release(4)
        await asyncio.gather(*tasks)

    assert trial(work).calls == [("a", [0]), ("b", [1, 3]), ("a", [2]), ("c", [4])]


def test_a_pass_waits_for_images_that_are_being_decoded() -> None:
    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        gate.passes.release(9)
        decoded = asyncio.Event()

        async def come() -> None:
            with batcher.coming("a"):
                await decoded.wait()
            await batcher.submit("a", 2)

        second = asyncio.create_task(come())
        await asyncio.sleep(0)
        first = asyncio.create_task(batcher.submit("a", 1))
        for _ in range(3):
            await asyncio.sleep(0)
        assert gate.calls == []
        decoded.set()
        await asyncio.gather(first, second)

    assert trial(work, linger=10.0).calls == [("a", [1, 2])]


def test_a_pass_does_not_wait_long_nor_for_other_models() -> None:
    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        gate.passes.release(9)
        with batcher.coming("a"), batcher.coming("b"):
            await batcher.submit("a", 1)
            await batcher.submit("c", 2)

    assert trial(work, linger=0.01).calls == [("a", [1]), ("c", [2])]


def test_an_image_that_never_comes_holds_nobody() -> None:
    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        await (await held_back(gate, batcher))

    assert trial(work, linger=60.0).calls == [("a", [1])]


def test_a_failure_reaches_its_batch_only() -> None:
    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        tasks = [asyncio.create_task(batcher.submit("a", 0))]
        await gate.reached()
        tasks += [asyncio.create_task(batcher.submit("a", number)) for number in (13, 14)]
        tasks.append(asyncio.create_task(batcher.submit("b", 5)))
        await asyncio.sleep(0)
        gate.passes.release(9)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in done[1:3]] == [RuntimeError, RuntimeError]
        assert not isinstance(done[0], BaseException)
        assert not isinstance(done[3], BaseException)

    trial(work)


def test_who_went_away_is_not_computed() -> None:
    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        first = asyncio.create_task(batcher.submit("a", 0))
        await gate.reached()
        gone = asyncio.create_task(batcher.submit("a", 1))
        stays = asyncio.create_task(batcher.submit("a", 2))
        await asyncio.sleep(0)
        gone.cancel()
        gate.passes.release(9)
        await asyncio.gather(first, stays)
        with pytest.raises(asyncio.CancelledError):
            await gone

    assert trial(work).calls == [("a", [0]), ("a", [2])]


def test_closing_cancels_what_is_left() -> None:
    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        tasks = [asyncio.create_task(batcher.submit("a", 0))]
        await gate.reached()
        tasks.append(asyncio.create_task(batcher.submit("a", 1)))
        await asyncio.sleep(0)
        await batcher.close()
        gate.passes.release(9)
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task

    trial(work)


@pytest.mark.parametrize("ticks", range(5))
def test_closing_ends_while_an_image_arrives(ticks: int) -> None:
    """The cancellation meets the wake-up of the pass that was held back."""

    async def work(gate: Gate, batcher: Batcher[str, int, int]) -> None:
        task = await held_back(gate, batcher)
        for _ in range(ticks):
            await asyncio.sleep(0)
        await batcher.close()
        await asyncio.wait([task])

    trial(work, linger=60.0)
