"""Ring the doorbell from a thread of its own: no request waits for a broker that is away."""

import queue
import threading
from typing import Self

from celery import Celery

from core.store.broker import ring

# A ring says "there is work", not which; so many waiting ones wake every worker there is.
MOST_WAITING = 64
LAST_WORDS_SECONDS = 2.0


class Doorbell:
    """Rings once for each call, soon; use it in a `with` statement."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Celery | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Ring what still waits, but not for long; a sweep rings again for what was missed."""
        try:
            self._waiting.put(None, timeout=LAST_WORDS_SECONDS)
        except queue.Full:
            return
        self._thread.join(LAST_WORDS_SECONDS)

    def __call__(self, celery: Celery) -> None:
        """Have the bell rung."""
        try:
            self._waiting.put_nowait(celery)
        except queue.Full:
            return

    def _run(self) -> None:
        while (celery := self._waiting.get()) is not None:
            ring(celery)
