"""A queue in front of SQLite's write lock, so that no writer of any process waits for seconds.

SQLite's own waiting is a lottery: whoever has just written and writes again is quicker than all
who sleep, and those look less often the longer they have slept. Under load some lose for ten
seconds and fail. In line, one waits for the lock alone while the others have equal chances of
being next. The line is a courtesy: it protects nothing, and who waits too long in it goes ahead.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.system.locks import try_lock

PATIENCE_SECONDS = 3.0  # A process may be frozen in line; it must not hold up the others for long.


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the head of the line while the write lock is waited for; the kernel ends it at death.

    Args:
        path: An empty file beside the database, made where it is missing.
    """
    line = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try_lock(line, patience=PATIENCE_SECONDS)
        yield
    finally:
        os.close(line)
