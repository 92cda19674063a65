"""Python imports this by itself: its clock is off by the seconds in the file CHAOS_CLOCK.

Beside that file each process leaves one, named for its id, with what its clock was off by at first.
"""

import os
import time
from pathlib import Path

CLOCK = Path(os.environ["CHAOS_CLOCK"])
truth = time.time


def lie() -> float:
    return truth() + float(CLOCK.read_text())


time.time = lie
time.time_ns = lambda: int(lie() * 1e9)
CLOCK.with_suffix(f".{os.getpid()}").write_text(f"{time.time() - truth():.0f}")
