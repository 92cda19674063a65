"""Rows computed once, in files that outlive the run.

A file is found by what its rows are (`Kind`) and by the names of its rows, and every row carries
its name and a checksum. So a row is right or it is not there: after a kill, a power cut or damage
the missing ones are computed again, rows that another file of the same kind has are copied, and
two processes that write the same file write the same bytes.
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from core.system.cache_dir import trim
from core.system.disk import free_bytes, is_full
from core.system.failpoints import hit
from core.system.locks import means, try_lock
from models.data.rows import MARK_BYTES, Kind, Make, Rows
from topwork.errors import DiskFull

HELD_BYTES = 256 << 20  # Up to so many are read into memory once, not row by row for each batch.
STUCK_SECONDS = 60.0  # After so long without a new row, whoever fills a file is taken for frozen.
LOOK_SECONDS = 0.2


class Cache:
    """A folder of such files.

    Args:
        own: The run's own folder, made when needed, for what may not be kept.
        between: Called between two pieces of work; what it raises ends the work.
        shared: The folder that outlives the run, if there is one.
        budget: Bytes that may lie in `shared`; None means any number.
        spare: Bytes of the disk that have to stay free for what the run writes besides.
    """

    def __init__(
        self,
        own: Path,
        between: Callable[[], None],
        shared: Path | None = None,
        budget: int | None = None,
        spare: int = 0,
    ) -> None:
        self._own, self._between, self._shared, self._budget = own, between, shared, budget
        self._spare = spare

    def rows(
        self, kind: Kind, names: Sequence[bytes], make: Make, into: NDArray[Any] | None = None
    ) -> Rows:
        """Return the rows that have these names, computing what is not there yet.

        Args:
            kind: What the rows are.
            names: 32 bytes each, in the order of the rows.
            make: Given the numbers of the rows to compute, yields them in this order, stacked. What
                is lost later is asked of it again, as long as the rows are in use.
            into: Memory (n, *kind.shape) for all of them; without it they are held if they are few.

        Raises:
            DiskFull: The rows do not fit.
        """
        size = len(names) * (kind.row_bytes + MARK_BYTES)
        held = kind.empty(len(names)) if into is None and size <= HELD_BYTES else into
        digest = hashlib.sha256(b"".join(names)).hexdigest()[:24]
        path = self._folder(size, f"{kind.stem}{digest}.bin") / f"{kind.stem}{digest}.bin"
        handle = self._open(path, size)
        rows = Rows(handle, kind, names, make, held)
        try:
            others = (one for one in path.parent.glob(f"{kind.stem}*.bin") if one != path)
            rows.fill(others, self._between)
            try_lock(handle, shared=True)  # Another reader is as good.
            now = time.time_ns()  # The kernel's own stamp is too coarse to tell which came first.
            os.utime(handle, ns=(now, now))
        except BaseException:
            rows.close()
            raise
        return rows

    def _folder(self, size: int, name: str) -> Path:
        """Choose the folder, and make room in the shared one."""
        shared, budget = self._shared, self._budget
        if shared is not None and not (shared / name).exists() and budget is not None:
            rest = budget - size
            shared = shared if rest >= 0 and trim(shared, rest) <= rest else None
        folder = shared or self._own
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _open(self, path: Path, size: int) -> int:
        """Return a handle of the file in its full length, locked unless its owner is frozen."""
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._wait_for(handle)
                there = os.fstat(handle).st_size
                if there == 0 < size:
                    _allocate(handle, size, path, self._spare)
                elif there != size:
                    path.unlink(missing_ok=True)  # Somebody may read the odd one.
                if means(path, handle):
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def _wait_for(self, handle: int) -> None:
        """Wait while another process computes the same rows, as long as it goes on."""
        while not try_lock(handle) and not try_lock(handle, shared=True):
            if time.time() - os.fstat(handle).st_mtime > STUCK_SECONDS:
                return
            self._between()
            time.sleep(LOOK_SECONDS)


def _allocate(handle: int, size: int, path: Path, spare: int) -> None:
    """Reserve the space now, because a full disk later would end the process without a word."""
    for last in (False, True):
        try:
            hit("cache.allocate")
            if free_bytes(path.parent) < size + spare:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - as below.
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            if not is_full(error) and error.errno != errno.EFBIG:
                raise
            os.ftruncate(handle, 0)
            if last:
                path.unlink(missing_ok=True)
                words = f"The decoded images or features need {size / 1e9:.1f} GB of disk space."
                raise DiskFull(words) from error
            trim(path.parent, 0)
        else:
            return
