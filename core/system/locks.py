"""Locks on files and folders (flock), which the kernel lets go of however their holder ends.

A lock is on the open file, not on its name: `take` looks whether the name still means that file,
so nobody holds one that has been removed or replaced meanwhile. Descriptors are closed on exec, so
a started program cannot keep a lock; a fork shares it. Source: flock(2).
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

LOOK_SECONDS = 0.002


def try_lock(handle: int, *, shared: bool = False, patience: float = 0.0) -> bool:
    """Lock an open file, or turn the lock on it into the other kind; say whether that was possible.

    Args:
        handle: Its descriptor; its close lets go.
        shared: Whether others may hold a shared lock at the same time.
        patience: Seconds to wait for whoever holds it.

    Raises:
        OSError: The file system has no locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + patience
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_SECONDS)


def take(path: Path, *, shared: bool = False, create: bool = False) -> int:
    """Open and lock what a name means; return the descriptor, whose close lets go.

    Args:
        path: A file, which is opened for reading and writing, or a folder.
        shared: Whether others may hold a shared lock at the same time.
        create: Make an empty file where there is none.

    Raises:
        BlockingIOError: Another holds it.
        FileNotFoundError: There is none.
    """
    while True:
        handle = _open(path, create=create)
        with ExitStack() as given_up:
            given_up.callback(os.close, handle)
            if not try_lock(handle, shared=shared):
                raise BlockingIOError(f"another process holds {path.name}")
            if means(path, handle):
                given_up.pop_all()
                return handle


@contextmanager
def hold(path: Path, *, create: bool = False) -> Iterator[int]:
    """Hold what a name means for oneself; errors as of `take`."""
    handle = take(path, create=create)
    try:
        yield handle
    finally:
        os.close(handle)


def remove_unused(path: Path) -> bool:
    """Remove a file unless somebody holds it; return whether it is gone."""
    try:
        with hold(path):
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def means(path: Path, handle: int) -> bool:
    """Return whether a name still means this open file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False


def _open(path: Path, *, create: bool) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        return os.open(path, flags, 0o600)
    except IsADirectoryError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
