"""Readiness signal: a process tells the one that started it, and nobody else, that it can work.

The starter hands over the write end of a pipe, by its number in TOPWORK_READY_FD. No other process
has it, so what arrives there is this process's own word. An answer on a port could be anybody's.
"""

import contextlib
import functools
import os

VARIABLE = "TOPWORK_READY_FD"


@functools.cache  # The number may be another file's after it was closed.
def announce() -> None:
    """Say it, the first time that this is called, where somebody waits for it."""
    if number := os.environ.get(VARIABLE):
        with contextlib.suppress(OSError):  # The starter has ended.
            os.write(int(number), b"\n")
            os.close(int(number))
