"""Limits of a process that decodes strangers' images and does nothing else."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

MEMORY_BYTES = 2048 * 1024 * 1024  # Address space; 36 megapixels as RGB are 0.1 GiB a copy.
CPU_SECONDS = 10.0

_limited: list[bool] = []


def limit_process() -> None:
    """Take from this process the means to use much memory, to write files and to leave a core."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle.
    _limited.append(True)


def limited() -> bool:
    """Tell whether this process has these limits."""
    return bool(_limited)


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """End the process where what is done inside takes longer.

    The clock counts CPU time, so a busy machine ends nothing; its signal is left to its default
    action, which also ends code that never returns to Python.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
