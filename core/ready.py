"""How a process says that it can do its work: to the one that started it, and to nobody else.

The starter hands over the write end of a pipe, by its number in TOPWORK_READY_FD. No other process
has it, so what arrives there is this process's own word. An answer on a port could be anybody's.
"""

import contextlib
import os

VARIABLE = "TOPWORK_READY_FD"


def announce() -> None:
    """Say it once, where somebody waits for it; safe from any thread."""
    number = os.environ.pop(VARIABLE, "")
    if number:
        with contextlib.suppress(OSError):  # The starter has ended.
            os.write(int(number), b"\n")
            os.close(int(number))
