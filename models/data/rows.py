"""Rows of a file of the cache, read into memory of one's own and checked there before their use.

A mapped file is read when it is used, whatever was checked before: bytes changed in place would be
trained on, and a file that was cut would end the process with SIGBUS. So nothing is mapped, and
what is not as it was written is computed again. `models.data.sources` and `features` take rows.
"""

import hashlib
import json
import math
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.system.failpoints import hit
from core.system.machine import cores

CHECK_BYTES = 8
NAME_BYTES = 32
MARK_BYTES = NAME_BYTES + CHECK_BYTES

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

    def empty(self, count: int) -> NDArray[Any]:
        """Return memory for so many rows."""
        return np.empty((count, *self.shape), self.dtype)


class Rows:
    """Rows by number. The file is open, and so locked, as long as this lives.

    Args:
        handle: The file, open for reading and writing; it is closed with this.
        kind: What the rows are.
        names: 32 bytes each, in the order of the rows.
        make: Given the numbers of rows to compute, yields them in this order, stacked.
        held: Memory (n, *kind.shape) in which all rows stay once they are read, or None to read
            each one when it is taken.
    """

    def __init__(
        self, handle: int, kind: Kind, names: Sequence[bytes], make: Make, held: NDArray[Any] | None
    ) -> None:
        self.kind = kind
        self.close = weakref.finalize(self, os.close, handle)
        self._names, self._make, self._held = names, make, held
        self._file = _File(handle, kind, len(names))
        self._threads = cores()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="rows")

    def __len__(self) -> int:
        return len(self._names)

    def take(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows (n, *kind.shape), each as it was computed; a lost one is computed again."""
        if self._held is not None:
            return self._held[numbers]
        rows, wanted = self.kind.empty(len(numbers)), numbers.tolist()

        def unread(places: range) -> list[int]:
            return [at for at in places if not self._read(wanted[at], rows[at])]

        # Reading and hashing run beside each other, as a GPU would wait for one thread of it.
        shares = [range(first, len(wanted), self._threads) for first in range(self._threads)]
        lost = [at for part in self._pool.map(unread, shares) for at in part]
        if lost:
            rows[lost] = np.concatenate(list(self._made([wanted[at] for at in lost])))
        return rows

    def fill(self, others: Iterable[Path], between: Callable[[], None]) -> None:
        """Take what the file lacks from other files of the kind, or else compute it.

        `between` is called between two pieces of work; what it raises ends the work.
        """
        rows = self.kind.empty(1) if self._held is None else self._held
        missing = [n for n in range(len(self)) if not self._read(n, rows[n % len(rows)])]
        for _ in self._made(self._copied(missing, others)):
            hit("cache.after_part")
            between()

    def _read(self, number: int, row: NDArray[Any]) -> bool:
        return self._file.read(number, self._names[number], row)

    def _made(self, missing: list[int]) -> Iterator[NDArray[Any]]:
        """Compute rows, and yield them as they come to be in the file."""
        done = 0
        for part in self._make(missing) if missing else ():
            self._keep(missing[done : done + len(part)], part)
            done += len(part)
            yield part

    def _copied(self, missing: list[int], others: Iterable[Path]) -> list[int]:
        """Take the rows that other files have; return the numbers of those left."""
        wanted = {self._names[number]: number for number in missing}
        row, copied = self.kind.empty(1), set()
        for other in others:
            if not wanted:
                break
            with suppress(FileNotFoundError), other.open("rb") as opened:
                each = self.kind.row_bytes + MARK_BYTES
                count, odd = divmod(os.fstat(opened.fileno()).st_size, each)
                donor = _File(opened.fileno(), self.kind, 0 if odd else count)
                for place in range(donor.count):
                    name = donor.mark(place)[:NAME_BYTES]
                    if name in wanted and donor.read(place, name, row[0]):
                        number = wanted.pop(name)
                        self._keep([number], row)
                        copied.add(number)
        return [number for number in missing if number not in copied]

    def _keep(self, numbers: list[int], part: NDArray[Any]) -> None:
        self._file.write(numbers, [self._names[number] for number in numbers], part)
        if self._held is not None:
            self._held[numbers] = part


class _File:
    """So many rows, then name and checksum of each."""

    def __init__(self, handle: int, kind: Kind, count: int) -> None:
        self.count = count
        self._handle, self._kind = handle, kind
        self._marks = count * kind.row_bytes

    def mark(self, number: int) -> bytes:
        """Return name and checksum of a row as they stand in the file."""
        return os.pread(self._handle, MARK_BYTES, self._marks + number * MARK_BYTES)

    def read(self, number: int, name: bytes, row: NDArray[Any]) -> bool:
        """Read a row into memory; return whether it is whole there and has this name."""
        data = row.data.cast("B")
        os.preadv(self._handle, [data], number * self._kind.row_bytes)
        return self.mark(number) == name + _check(name, data)

    def write(self, numbers: Sequence[int], names: Sequence[bytes], part: NDArray[Any]) -> None:
        """Write rows, and only then their marks, so that a batch is usually there or not."""
        size, marks = self._kind.row_bytes, []
        rows = np.ascontiguousarray(part, self._kind.dtype)
        for number, name, row in zip(numbers, names, rows, strict=True):
            data = row.data.cast("B")
            os.pwrite(self._handle, data, number * size)
            marks.append(name + _check(name, data))
        for number, mark in zip(numbers, marks, strict=True):
            os.pwrite(self._handle, mark, self._marks + number * MARK_BYTES)


def _check(name: bytes, data: memoryview) -> bytes:
    digest = hashlib.sha256(name)
    digest.update(data)
    return digest.digest()[:CHECK_BYTES]
