"""Periodic cleanup of this machine's folders and of the storage that all workers share."""

import threading

import structlog

from core.domain import webhooks
from core.ops import garbage, local_cleanup
from core.store.resources import Resources

LONGEST_PAUSE = 3600.0
log = structlog.get_logger()


class Upkeep(threading.Thread):
    """A thread of its own, as going through a large storage takes longer than a sweep may.

    Args:
        resources: Open handles.
        stop: Set when the worker drains.
    """

    def __init__(self, resources: Resources, stop: threading.Event) -> None:
        super().__init__(name="upkeep", daemon=True)
        self._resources, self._stop_asked = resources, stop

    def run(self) -> None:
        """Tidy at once and then every `gc_seconds`, at least hourly, until the worker drains."""
        every = self._resources.settings.gc_seconds
        while not self._stop_asked.is_set():
            try:
                self._tidy(every)
            except Exception:
                # Database or storage may be away; what is left over now is so an hour later.
                log.exception("upkeep.failed")
            self._stop_asked.wait(min(every, LONGEST_PAUSE))

    def _tidy(self, every: float) -> None:
        local_cleanup.tidy(self._resources)
        with self._resources.database.write() as session:
            webhooks.prune(session)
        if garbage.is_due(self._resources.database, every):
            garbage.collect(self._resources, self._resources.settings.gc_grace_seconds)
