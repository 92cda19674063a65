"""Progress of a run as one number, over stages of very different cost."""

import time
from collections.abc import Mapping

from core.system.run_dir import Events


class Meter:
    """Turn units done in a stage into progress 0..1, a step that only grows, and seconds left.

    Args:
        events: Where progress is reported.
        stages: Name -> (units, estimated seconds in all), in their order.
    """

    def __init__(self, events: Events, stages: Mapping[str, tuple[int, float]]) -> None:
        self._events = events
        self._stages = stages
        self._whole = sum(seconds for _, seconds in stages.values()) or 1.0
        self._first: tuple[float, float] | None = None

    def at(self, stage: str, done: int) -> None:
        """Report `done` units of a stage."""
        step = 0
        before = 0.0
        for name, (units, seconds) in self._stages.items():
            if name == stage:
                share = done / max(1, units)
                self._report((before + seconds * min(share, 1.0)) / self._whole, step + done)
                return
            step += units
            before += seconds

    def _report(self, fraction: float, step: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, fraction)
        began, base = self._first
        gained = fraction - base
        left = (1 - fraction) * (now - began) / gained if gained > 0 else None
        self._events.progress(fraction, step, left)
