"""Python imports this by itself: its clock is off by the seconds in the file CHAOS_CLOCK."""

import os
import time
from pathlib import Path

CLOCK = Path(os.environ["CHAOS_CLOCK"])
truth = time.time


def lie() -> float:
    return truth() + float(CLOCK.read_text())


time.time = lie
time.time_ns = lambda: int(lie() * 1e9)
