"""The time limit of a run: one clock for decoding, features, epochs and every attempt.

It starts with the process. What earlier attempts took is kept in `checkpoint/`, which is handed
from attempt to attempt, so that a run that is killed during its features starts no new count.
"""

import json
import time
from pathlib import Path

from core.system.atomic_files import write_atomically
from core.system.run_dir import RunDir
from topwork.errors import TimeLimitReached

NOTE_SECONDS = 5.0
KEPT = ("best-*", "head.safetensors")  # Weights of an epoch, and of a finished head.


class Deadline:
    """Seconds spent on a run in all attempts, and whether that is too much.

    Args:
        run: Its checkpoint folder keeps the count.
        minutes: The limit; None never ends.

    Attributes:
        enough: Whether a model is there that can be taken as it is. Preparing more is then left as
            soon as the limit is over; else only where no model could follow at all.
    """

    def __init__(self, run: RunDir, minutes: float | None) -> None:
        self.minutes, self.enough = minutes, False
        self._file: Path = run.checkpoint / "clock.json"
        self._began = self._noted = time.monotonic()
        self._before = _read(self._file)

    @property
    def spent(self) -> float:
        """Seconds since the first attempt began to work, the pauses between attempts left out."""
        return self._before + time.monotonic() - self._began

    @property
    def reached(self) -> bool:
        """Tell whether the limit is over; call it often, as it also keeps the count."""
        now = time.monotonic()
        if self.minutes is not None and now - self._noted >= NOTE_SECONDS:
            self._noted = now
            write_atomically(self._file, json.dumps({"spent": self.spent}).encode())
        return self.minutes is not None and self.spent >= 60 * self.minutes

    def lift(self) -> None:
        """Let the rest take its time: a model that was trained in time is also evaluated."""
        self.minutes = None

    def check(self) -> None:
        """Leave where no model could be kept, so that a retry has all its time, or with `enough`.

        Raises:
            TimeLimitReached: The limit is over.
        """
        if not self.reached:
            return
        if self.enough:
            raise TimeLimitReached
        if not any(any(self._file.parent.rglob(name)) for name in KEPT):
            self._file.unlink(missing_ok=True)
            raise TimeLimitReached


def _read(file: Path) -> float:
    try:
        return float(json.loads(file.read_text("utf-8"))["spent"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0.0
