"""How many predictions one api process takes on at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import PredictorBusy


class Admission:
    """Bounds the requests whose images are held in memory; used on the event loop only.

    The predictor bounds its queue too, but only once a whole body has arrived here.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place until the answer is sent.

        Raises:
            PredictorBusy: Every place is taken; nothing of the body has been read yet.
        """
        if self.held >= self.limit:
            raise PredictorBusy
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
