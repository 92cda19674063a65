"""Memory budget: how many requests of a kind one process takes at once, and their bytes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from topwork.errors import PredictorBusy, TooManyRequests, Unavailable

LEAST = 64 * 1024
"""Bytes that a body counts at least: the server's buffers of a connection."""
RETRY_AFTER_SECONDS = 2


class Admission:
    """Bounds requests, say predictions, and the bytes they hold; used on the event loop only.

    A request takes a place once its body is there, so a client that stands still holds no place but
    only the bytes that it has sent. The predictor bounds its queue too, behind all this.

    Args:
        limit: Requests whose bodies have arrived; beyond it an owner without any is let in.
        memory: Bytes of all bodies, as they arrive and later; half of them for one owner.
        full: What is raised where all requests together hold too many.
    """

    def __init__(self, limit: int, memory: int, full: type[Unavailable] = PredictorBusy) -> None:
        self.limit = limit
        self.memory = memory
        self._full = full
        self.places: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """Places that are taken."""
        return self.places.total()

    def check(self, owner: str) -> None:
        """Raise PredictorBusy where no place is left for an owner: the body is better not sent."""
        if self.held >= self.limit and self.places[owner]:
            raise PredictorBusy

    @contextmanager
    def one(self, owner: str) -> Iterator[None]:
        """Take a place until the answer is sent, or raise PredictorBusy."""
        self.check(owner)
        self.places[owner] += 1
        try:
            yield
        finally:
            self.places[owner] -= 1
            self.places += Counter()  # Forgets whoever holds none.

    @contextmanager
    def body(self, owner: str) -> Iterator["Body"]:
        """Count the memory of a body until the answer is sent."""
        body = Body(self, owner)
        try:
            body.hold(LEAST)
            yield body
        finally:
            body.hold(0)

    def take(self, owner: str, size: int) -> None:
        """Take bytes, or give them back where `size` is negative.

        Raises:
            TooManyRequests: The owner's requests hold too many already.
            Unavailable: All requests together do; PredictorBusy for predictions.
        """
        if size > 0 and self.bytes[owner] + size > self.memory // 2:
            message = "your requests under way hold too many bytes"
            raise TooManyRequests(message, retry_after=RETRY_AFTER_SECONDS)
        if size > 0 and self.bytes.total() + size > self.memory:
            raise self._full("the requests under way hold too many bytes")
        self.bytes[owner] += size
        if not self.bytes[owner]:
            del self.bytes[owner]


class Body:
    """What one request holds in memory.

    Attributes:
        copies: How often a byte that arrives is held at most, by its way to the predictor.
    """

    def __init__(self, admission: Admission, owner: str) -> None:
        self._admission, self._owner = admission, owner
        self._held = 0
        self._arrived = 0
        self.copies = 2

    def arrive(self, size: int) -> None:
        """Count a piece that has come."""
        self._arrived += size
        self.hold(max(LEAST, self.copies * self._arrived))

    def hold(self, size: int) -> None:
        """Hold so many bytes from now on."""
        self._admission.take(self._owner, size - self._held)
        self._held = size
