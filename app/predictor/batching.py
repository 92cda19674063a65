"""Micro-batches: one thread runs the forward passes; requests that wait meanwhile go together.

A request that finds the thread idle runs at once and alone. Batches form by themselves while a
pass is under way; only when more images of the same model are known to be on their way, still
being decoded, is a pass held back for a few milliseconds.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")

LINGER_SECONDS = 0.003


@dataclass(frozen=True, slots=True)
class Done(Generic[Answer]):
    """An answer and when (`time.perf_counter`) the pass that gave it began and ended."""

    answer: Answer
    began: float
    ended: float


@dataclass
class _Lane(Generic[Item, Answer]):
    """What waits for one model; `coming` more are being decoded."""

    waiting: deque[tuple[float, Item, asyncio.Future[Done[Answer]]]] = field(default_factory=deque)
    coming: int = 0


class Batcher(Generic[Key, Item, Answer]):
    """Collects items per key and hands them to `run` in the order of their arrival.

    Args:
        run: Called in the batcher's thread with a key and up to `largest` items; returns one
            answer for each. What it raises reaches everyone whose item was in the batch.
        largest: Most items in one call.
        observe: Told the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[Key, Sequence[Item]], Sequence[Answer]],
        *,
        largest: int,
        observe: Callable[[int], None] = lambda _: None,
        linger: float = LINGER_SECONDS,
    ) -> None:
        self._run = run
        self._largest = largest
        self._observe = observe
        self._linger = linger
        self._lanes: defaultdict[Key, _Lane[Item, Answer]] = defaultdict(_Lane)
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._task = asyncio.create_task(self._serve())

    @contextmanager
    def coming(self, key: Key) -> Iterator[None]:
        """Announce one item that is about to be submitted, or not, at the end of the block."""
        self._lanes[key].coming += 1
        try:
            yield
        finally:
            self._lanes[key].coming -= 1
            self._arrived.set()

    async def submit(self, key: Key, item: Item) -> Done[Answer]:
        """Wait for the answer to one item."""
        future: asyncio.Future[Done[Answer]] = asyncio.get_running_loop().create_future()
        self._lanes[key].waiting.append((time.perf_counter(), item, future))
        self._arrived.set()
        return await future

    async def close(self) -> None:
        """Stop; items that still wait are cancelled."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for lane in self._lanes.values():
            for _, _, future in lane.waiting:
                future.cancel()
        self._thread.shutdown(wait=False)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while (key := self._oldest()) is not None:
                await self._gather(self._lanes[key])
                await self._pass(key)

    def _oldest(self) -> Key | None:
        """Return the key whose first item waits longest; forget lanes that are empty."""
        for key in [key for key, lane in self._lanes.items() if not (lane.waiting or lane.coming)]:
            del self._lanes[key]
        heads = [(lane.waiting[0][0], key) for key, lane in self._lanes.items() if lane.waiting]
        return min(heads, key=lambda head: head[0])[1] if heads else None

    async def _gather(self, lane: _Lane[Item, Answer]) -> None:
        """Hold a batch back while it is not full and more items are on their way."""
        deadline = time.perf_counter() + self._linger
        while lane.coming and len(lane.waiting) < self._largest:
            left = deadline - time.perf_counter()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                # `wait_for` swallows a cancellation that meets the event, up to Python 3.11
                # (github.com/python/cpython/issues/86296): `close` would wait for ever.
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def _pass(self, key: Key) -> None:
        waiting = self._lanes[key].waiting
        taken = [waiting.popleft() for _ in range(min(len(waiting), self._largest))]
        batch = [(item, future) for _, item, future in taken if not future.cancelled()]
        if not batch:
            return
        self._observe(len(batch))
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        try:
            items = [item for item, _ in batch]
            answers = await loop.run_in_executor(self._thread, self._run, key, items)
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # Whoever submitted an item handles it.
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        ended = time.perf_counter()
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(Done(answer, began, ended))
