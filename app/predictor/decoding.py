"""Decoding in threads: who goes next, and how much waits; used on the event loop only.

An image is weighed by its header first. Small and large ones have threads of their own, so that a
small one never waits for a large one, and in each of these lanes the owner goes next who has had
the fewest pixels (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996).
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from core.imaging.decode import ImageLimits, OpenImage
from core.system.machine import give_memory_back
from topwork.errors import PredictorBusy, TooManyRequests, TopworkError

# Samples, converted copies and the resized one: measured 20 with transparency, 26 of 16 bits.
BYTES_PER_PIXEL = 28
LARGE_WEIGHT = 8_000_000
SMALL_BYTES, LARGE_BYTES = 256 * 1024**2, 1024**3  # Of all that a lane decodes at once.
HEADERS = 2  # Threads that only read headers.
SHARE = 8  # So many of the largest images are what an owner may have waiting.
PATIENCE_SECONDS = 30.0  # Until an image is begun: less than the api waits for the answer.
RETRY_AFTER_SECONDS = 5
T = TypeVar("T")


@dataclass(eq=False)
class _Turn:
    """An image that waits, or is being decoded."""

    weight: int
    nbytes: int
    work: Callable[[], Any]
    answer: asyncio.Future[Any]


class Lane:
    """Some threads, and queues of turns in front of them, one for each owner.

    Args:
        name: Of its threads.
        threads: Images at once.
        nbytes: Memory of them all; an image that needs more goes alone.
    """

    def __init__(self, name: str, threads: int, nbytes: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._threads, self._nbytes = threads, nbytes
        self._running: set[_Turn] = set()
        self._waiting: dict[str, deque[_Turn]] = {}
        self._had: dict[str, int] = {}  # Weight of what each owner has begun.
        self._now = 0  # What the owner had had who began last.

    async def run(self, owner: str, weight: int, work: Callable[[], T]) -> T:
        """Do the work in a thread once it is this owner's turn.

        Raises:
            PredictorBusy: It was not for `PATIENCE_SECONDS`.
        """
        loop = asyncio.get_running_loop()
        nbytes = min(weight * BYTES_PER_PIXEL, self._nbytes)
        turn = _Turn(weight, nbytes, work, loop.create_future())
        if owner not in self._waiting:  # Who had nothing to do has saved nothing up.
            self._waiting[owner] = deque()
            self._had[owner] = max(self._had.get(owner, 0), self._now)
        self._waiting[owner].append(turn)
        patience = loop.call_later(PATIENCE_SECONDS, self._give_up, turn)
        self._begin()
        try:
            return await turn.answer  # type: ignore[no-any-return] # What `work` returns.
        finally:
            patience.cancel()
            self._begin()  # Behind it in its queue another one may fit.

    def close(self) -> None:
        """Stop the threads once their present work is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _give_up(self, turn: _Turn) -> None:
        if turn not in self._running and not turn.answer.done():
            turn.answer.set_exception(PredictorBusy("there are too many images to decode"))

    def _begin(self) -> None:
        """Begin as many turns as there are threads and memory for."""
        while len(self._running) < self._threads and (owner := self._next()) is not None:
            turn = self._waiting[owner][0]
            used = sum(other.nbytes for other in self._running)
            if used and used + turn.nbytes > self._nbytes:
                return
            self._waiting[owner].popleft()
            self._now = self._had[owner]
            self._had[owner] += turn.weight
            self._running.add(turn)
            loop = turn.answer.get_loop()
            done = self._pool.submit(turn.work)
            done.add_done_callback(partial(_tell, loop, self._end, turn))

    def _next(self) -> str | None:
        """Return the owner that has had the least; forget turns that nobody waits for."""
        for owner, queue in list(self._waiting.items()):
            while queue and queue[0].answer.done():
                queue.popleft()
            if not queue:
                del self._waiting[owner]
        return min(self._waiting, key=self._had.__getitem__, default=None)

    def _end(self, turn: _Turn, done: Future[Any]) -> None:
        self._running.discard(turn)
        if not turn.answer.done():  # Else whoever asked has gone.
            if error := done.exception():
                turn.answer.set_exception(error)
            else:
                turn.answer.set_result(done.result())
        self._begin()
        if not self._running:
            self._had.clear()
            self._now = 0
            if turn.weight > LARGE_WEIGHT:
                self._pool.submit(give_memory_back)


def _tell(
    loop: asyncio.AbstractEventLoop,
    end: Callable[[_Turn, Future[Any]], None],
    turn: _Turn,
    done: Future[Any],
) -> None:
    """Hand the outcome over from the thread; at the end of the process nobody takes it."""
    if not done.cancelled():
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(end, turn, done)


class Decoding:
    """The predictor's decoding: weigh, admit, decode.

    Args:
        limits: Of a single image.
        threads: Images that are decoded at once; of large ones one fewer, if that leaves any.
    """

    def __init__(self, limits: ImageLimits, threads: int) -> None:
        self._limits = limits
        self._headers = ThreadPoolExecutor(HEADERS, thread_name_prefix="header")
        self._small = Lane("decode", threads, SMALL_BYTES)
        self._large = Lane("decode large", max(1, threads - 1), LARGE_BYTES)
        self._inside: Counter[str] = Counter()

    async def weigh(self, images: Sequence[memoryview]) -> list[int | TopworkError]:
        """Return for each image what its header says that it costs, or what is wrong with it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._headers, self._weights, images)

    def _weights(self, images: Sequence[memoryview]) -> list[int | TopworkError]:
        weights: list[int | TopworkError] = []
        for data in images:
            try:
                weights.append(OpenImage(data, self._limits).weight)
            except TopworkError as error:
                weights.append(error)
        return weights

    @contextmanager
    def admitted(self, owner: str, weight: int) -> Iterator[None]:
        """Count the weight of a request's images until it is answered.

        A request that is heavier than what one owner may have waiting goes alone.

        Raises:
            TooManyRequests: The owner's images that wait are too heavy already.
        """
        most = SHARE * self._limits.max_pixels
        if self._inside[owner] and self._inside[owner] + weight > most:
            message = "your images that wait to be decoded have too many pixels"
            raise TooManyRequests(message, retry_after=RETRY_AFTER_SECONDS)
        self._inside[owner] += weight
        try:
            yield
        finally:
            self._inside[owner] -= weight
            self._inside += Counter()  # Forgets whoever has nothing inside.

    async def decode(
        self, owner: str, weight: int, data: memoryview, crop: Callable[[OpenImage], T]
    ) -> T:
        """Return what `crop` makes of an image, once it is its turn.

        Raises:
            PredictorBusy: There are too many images before it.
            ImageUndecodable, ImageTooLarge: As `OpenImage` and `crop` say.
        """
        lane = self._large if weight > LARGE_WEIGHT else self._small
        return await lane.run(owner, weight, lambda: crop(OpenImage(data, self._limits)))

    def close(self) -> None:
        """Stop all threads once their present work is done."""
        self._headers.shutdown(wait=False, cancel_futures=True)
        self._small.close()
        self._large.close()
