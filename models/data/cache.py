"""Arrays computed once, in files mapped into memory that outlive the run.

A file is found by what its rows are (`Kind`) and by the names of its rows, and every row carries
its name and a checksum. So a row is right or it is not there: after a kill, a power cut or damage
the missing ones are computed again, rows that another file of the same kind has are copied, and
two processes that write the same file write the same bytes.
"""

import errno
import hashlib
import json
import math
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.system.cache_dir import trim
from core.system.disk import free_bytes
from core.system.failpoints import hit
from core.system.locks import means, try_lock
from topwork.errors import DiskFull

CHECK_BYTES = 8
NAME_BYTES = 32
STUCK_SECONDS = 60.0  # After so long without a new row, whoever fills a file is taken for frozen.
LOOK_SECONDS = 0.2
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Make = Callable[[list[int]], Iterator[NDArray[Any]]]


@dataclass(frozen=True)
class Kind:
    """What the rows are: everything that decides their bytes besides their names.

    Args:
        label: One word for people.
        facts: JSON.
        shape: Of one row.
        dtype: Of the numbers.
    """

    label: str
    facts: dict[str, Any]
    shape: tuple[int, ...]
    dtype: type[np.generic]

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @cached_property
    def stem(self) -> str:
        """The beginning of the names of all files of this kind."""
        whole = [self.facts, list(self.shape), np.dtype(self.dtype).str]
        text = json.dumps(whole, sort_keys=True).encode()
        return f"{self.label}-{hashlib.sha256(text).hexdigest()[:24]}-"


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

    def rows(self, kind: Kind, names: Sequence[bytes], make: Make) -> NDArray[Any]:
        """Return the array whose rows have these names, computing what is not there yet.

        Args:
            kind: What the rows are.
            names: 32 bytes each, in the order of the rows.
            make: Given the numbers of the rows to compute, yields them in this order, stacked.

        Raises:
            DiskFull: The array does not fit.
        """
        if not names:
            return np.empty((0, *kind.shape), kind.dtype)
        size = len(names) * (kind.row_bytes + NAME_BYTES + CHECK_BYTES)
        digest = hashlib.sha256(b"".join(names)).hexdigest()[:24]
        path = self._folder(size, f"{kind.stem}{digest}.bin") / f"{kind.stem}{digest}.bin"
        handle = self._open(path, size)
        try:
            file = _File(handle, kind, names)
            missing = file.missing()
            if missing:
                missing = _copied(path, file, missing)
                self._fill(file, missing, make)
            try_lock(handle, shared=True)  # Another reader is as good.
            now = time.time_ns()  # The kernel's own stamp is too coarse to tell which came first.
            os.utime(handle, ns=(now, now))
            return file.array()
        finally:
            os.close(handle)  # The mapping keeps file and lock.

    def _fill(self, file: "_File", missing: list[int], make: Make) -> None:
        if not missing:
            return
        done = 0
        for part in make(missing):
            file.write(missing[done : done + len(part)], part)
            done += len(part)
            hit("cache.after_part")
            self._between()

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
                if there == 0:
                    _allocate(handle, size, path, self._spare)
                elif there != size:
                    path.unlink(missing_ok=True)  # Somebody may have the odd one mapped.
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


class _File:
    """The rows, then name and checksum of each."""

    def __init__(self, handle: int, kind: Kind, names: Sequence[bytes]) -> None:
        self.kind, self.names = kind, names
        self._handle = handle
        self._marks = len(names) * kind.row_bytes
        self._map = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)

    def missing(self) -> list[int]:
        """Return the numbers of the rows that are not there, or not as they were written."""
        return [n for n, name in enumerate(self.names) if self.read(n, name) is None]

    def mark(self, number: int) -> bytes:
        """Return name and checksum of a row as they stand in the file."""
        size = NAME_BYTES + CHECK_BYTES
        at = self._marks + number * size
        return self._map[at : at + size]

    def read(self, number: int, name: bytes) -> memoryview | None:
        """Return a row if it is whole and has this name."""
        size = self.kind.row_bytes
        data = memoryview(self._map)[number * size : (number + 1) * size]
        return data if self.mark(number) == name + _check(name, data) else None

    def write(self, numbers: Sequence[int], part: NDArray[Any]) -> None:
        """Write rows, and only then their marks, so that a batch is usually there or not."""
        size, marks = self.kind.row_bytes, []
        for number, row in zip(numbers, np.ascontiguousarray(part, self.kind.dtype), strict=True):
            data = memoryview(row.reshape(-1).view(np.uint8))
            os.pwrite(self._handle, data, number * size)
            marks.append(self.names[number] + _check(self.names[number], data))
        for number, mark in zip(numbers, marks, strict=True):
            os.pwrite(self._handle, mark, self._marks + number * len(mark))

    def array(self) -> NDArray[Any]:
        """Return all rows; the mapping lives as long as the array."""
        # Private pages, as torch wants an array that could be written.
        private = mmap.mmap(self._handle, 0, access=mmap.ACCESS_COPY)
        count = len(self.names) * math.prod(self.kind.shape)
        flat = np.frombuffer(private, self.kind.dtype, count)
        return flat.reshape(len(self.names), *self.kind.shape)


def _copied(path: Path, file: _File, missing: list[int]) -> list[int]:
    """Take the rows that other files of the kind have; return the numbers of those left."""
    wanted = {file.names[number]: number for number in missing}
    copied = set()
    each = file.kind.row_bytes + NAME_BYTES + CHECK_BYTES
    for other in path.parent.glob(f"{file.kind.stem}*.bin"):
        if not wanted or other == path:
            continue
        with suppress(FileNotFoundError), other.open("rb") as opened:
            count, odd = divmod(os.fstat(opened.fileno()).st_size, each)
            if odd or not count:
                continue
            donor = _File(opened.fileno(), file.kind, [b""] * count)
            for row in range(count):
                name = donor.mark(row)[:NAME_BYTES]
                if name in wanted and (data := donor.read(row, name)) is not None:
                    values = np.frombuffer(data, file.kind.dtype).reshape(1, *file.kind.shape)
                    number = wanted.pop(name)
                    file.write([number], values)
                    copied.add(number)
    return [number for number in missing if number not in copied]


def _check(name: bytes, data: memoryview) -> bytes:
    digest = hashlib.sha256(name)
    digest.update(data)
    return digest.digest()[:CHECK_BYTES]


def _allocate(handle: int, size: int, path: Path, spare: int) -> None:
    """Reserve the space now, because a full disk later would end the process without a word."""
    for last in (False, True):
        try:
            hit("cache.allocate")
            if free_bytes(path.parent) < size + spare:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - as below.
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            os.ftruncate(handle, 0)
            if last:
                path.unlink(missing_ok=True)
                words = f"The decoded images or features need {size / 1e9:.1f} GB of disk space."
                raise DiskFull(words) from error
            trim(path.parent, 0)
        else:
            return
