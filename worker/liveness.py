"""Liveness of workers on this machine: each holds a lock that the kernel drops at its death.

A worker that is killed and started again then takes up its predecessor's jobs at once instead of
when their leases run out. A frozen worker keeps its lock, so only the lease can end its claim.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from core.system.locks import hold, take


class Presence:
    """The lock of one worker, and a look at those of its neighbours."""

    def __init__(self, folder: Path, owner: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._path = folder, folder / owner

    def __enter__(self) -> Self:
        """Show this worker; the file appears locked, so that nobody finds it before its lock."""
        draft = self._path.with_name(f".{self._path.name}")
        self._lock = take(draft, create=True)
        try:
            draft.rename(self._path)
        except OSError:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave no trace."""
        self._path.unlink(missing_ok=True)
        os.close(self._lock)

    def dead(self) -> Iterator[str]:
        """Yield each worker of this machine that died, and forget it once that was dealt with.

        Locks of other machines on a shared folder mean nothing on some network file systems.
        """
        for path in self._folder.glob(f"{socket.gethostname()}:*"):
            if path == self._path:
                continue
            with suppress(FileNotFoundError, BlockingIOError), hold(path):  # It left, or lives.
                yield path.name
                path.unlink()
