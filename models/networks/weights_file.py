"""Safetensors files, read into memory of our own and hashed on the way.

The library maps files: what is hashed first is read again later, from a file that may have changed
meanwhile, and where it was cut the process dies of SIGBUS. Here each array is read once, and the
hash is that of the very bytes that the network then runs on. Needs no torch; `tensorfile` makes
tensors of the same bytes.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.planning.catalogue import HEADER_LIMIT
from topwork.errors import IntegrityError, WeightsMismatch

ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
DAMAGED = "{} does not match its recorded hash."
ALIGNMENT = 64  # Bytes; as torch's own memory, so that sums do not depend on who allocated.
COUNTER = "num_batches_tracked"
"""The last word of the names of what batch normalisation counts; only training reads it."""
PIECE = 1 << 20  # Bytes read and hashed at a time, while they are in the processor's cache.


@dataclass(frozen=True)
class Values:
    """One named array of a file: its type as the format writes it, its shape and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    def array(self, kinds: Mapping[str, type[np.generic]]) -> NDArray[Any]:
        """Return the values as numbers, in the same memory; `kinds` are the types that may be.

        Raises:
            WeightsMismatch: They are of another type.
        """
        if self.dtype not in kinds:
            raise WeightsMismatch(f"it holds values of the type {self.dtype}")
        return self.data.view(kinds[self.dtype]).reshape(self.shape)


@dataclass(frozen=True)
class WeightsFile:
    """What one file holds.

    Args:
        values: By name, each in memory of its own.
        metadata: What its writer noted.
        sha256: Of the whole file as it was read.
    """

    values: dict[str, Values]
    metadata: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class Slot:
    """Where one array is in a file: `begin` to `end` in bytes behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(path: Path, sha256: str | None = None, *, header_bytes: int = HEADER_LIMIT) -> WeightsFile:
    """Read a file.

    Args:
        path: The file.
        sha256: What its hash must be, where that is known.
        header_bytes: The longest header that is read.

    Raises:
        IntegrityError: The hash is another one.
        WeightsMismatch: It is no safetensors file, or a part of one, or it cannot be read.
    """
    with _opened(path) as reader:
        try:
            values, metadata = _parse(reader, header_bytes)
        except WeightsMismatch:
            if sha256 in (None, reader.sha256_to_the_end()):
                raise
            raise IntegrityError(DAMAGED.format(path.name)) from None
        found = reader.sha256_to_the_end()
    if sha256 not in (None, found):
        raise IntegrityError(DAMAGED.format(path.name))
    return WeightsFile(values, metadata, found)


def metadata(path: Path, *, header_bytes: int = HEADER_LIMIT) -> dict[str, str]:
    """Return what a file's writer noted; nothing of it is checked.

    Raises:
        WeightsMismatch: It has no readable header.
    """
    with _opened(path) as reader:
        return _header(reader, header_bytes)[1]


class _Reader:
    """Reads a file from its start to its end and hashes all that it hands out."""

    def __init__(self, file: FileIO, name: str) -> None:
        self._file, self._name = file, name
        self._digest = hashlib.sha256()
        self.size = os.fstat(file.fileno()).st_size
        self.at = 0

    def refusal(self, reason: str) -> WeightsMismatch:
        """Return the error that names this file."""
        return WeightsMismatch(f"{self._name} is no safetensors file: {reason}.")

    def fill(self, view: memoryview) -> None:
        """Fill memory with what comes next."""
        while view:
            count = self._file.readinto(view[:PIECE])
            if not count:
                raise self.refusal("it is cut off")
            self._digest.update(view[:count])
            self.at += count
            view = view[count:]

    def take(self, count: int) -> bytes:
        """Return so many bytes."""
        data = bytearray(count)
        self.fill(memoryview(data))
        return bytes(data)

    def sha256_to_the_end(self) -> str:
        """Return the hash of the whole file, what is left of it included."""
        while piece := self._file.read(PIECE):
            self._digest.update(piece)
        return self._digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[_Reader]:
    try:
        with path.open("rb", buffering=0) as file:
            yield _Reader(file, path.name)
    except FileNotFoundError as error:
        raise WeightsMismatch(f"{path.name} is missing.") from error
    except OSError as error:
        raise WeightsMismatch(f"{path.name} cannot be read: {error.strerror}.") from error


def _header(reader: _Reader, most: int) -> tuple[list[Slot], dict[str, str]]:
    (length,) = struct.unpack("<Q", reader.take(8))
    if length > min(most, reader.size):
        raise reader.refusal("its header is too long")
    try:
        fields = json.loads(reader.take(length))
        notes = {str(name): str(text) for name, text in fields.pop("__metadata__", {}).items()}
        slots = sorted(_slots(fields), key=lambda slot: (slot.begin, slot.end))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise reader.refusal("its header cannot be read") from error
    return slots, notes


def layout(path: Path) -> tuple[list[Slot], int]:
    """Return where each array is in a file, and the bytes before the first; nothing is checked.

    Raises:
        WeightsMismatch: It has no readable header.
    """
    with _opened(path) as reader:
        slots, _ = _header(reader, HEADER_LIMIT)
        return slots, reader.at


def _parse(reader: _Reader, most: int) -> tuple[dict[str, Values], dict[str, str]]:
    slots, notes = _header(reader, most)
    start, end = reader.at, 0
    for slot in slots:
        if slot.begin != end or slot.end - slot.begin != prod(slot.shape) * ITEM_BYTES[slot.dtype]:
            raise reader.refusal(f"the bytes of {slot.name!r} are not where they must be")
        end = slot.end
    if start + end != reader.size:
        raise reader.refusal("it is longer or shorter than its header says")
    return {slot.name: _values(reader, slot) for slot in slots}, notes


def _slots(fields: Mapping[str, Any]) -> Iterator[Slot]:
    for name, entry in fields.items():
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
            raise ValueError(name)
        if entry["dtype"] not in ITEM_BYTES:
            raise ValueError(entry["dtype"])
        yield Slot(name, entry["dtype"], tuple(shape), begin, end)


def _values(reader: _Reader, slot: Slot) -> Values:
    length = slot.end - slot.begin
    room = np.empty(length + ALIGNMENT, dtype=np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    data = room[start : start + length]
    reader.fill(data.data)
    return Values(slot.dtype, slot.shape, data)
