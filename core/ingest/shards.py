"""Write images as uncompressed tar shards in the WebDataset naming convention.

A member is `<sha256>.<format>` and nothing but the image's own bytes. Labels are not in the
shards: versions of a dataset share them, and a label that was corrected in a manifest would
stay wrong here. A shard is named after its own sha256; the same images in the same order make the
same bytes.
"""

import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.ingest.archive import MEBIBYTE
from core.system.failpoints import hit

MAX_BYTES = 256 * MEBIBYTE
MAX_IMAGES = 10_000
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
TEMPLATE = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)  # Owner 0, time 0, mode 0644.


@dataclass(frozen=True, slots=True)
class Address:
    """Where an image's bytes are; `shard` counts the shards of this writer from 0."""

    shard: int
    offset: int
    length: int


class ShardWriter:
    """Appends images to shards in a folder, each at most `max_bytes` or one image large."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        folder.mkdir()
        self.names: list[str] = []
        self._folder = folder
        self._max_bytes = max_bytes
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._position = 0
        self._images = 0

    def add(self, sha256: str, suffix: str, data: bytes) -> Address:
        """Append one image; `suffix` has no dot."""
        full = self._position + len(data) > self._max_bytes or self._images >= MAX_IMAGES
        if full and self._images:
            self._finish()
        header = _header(f"{sha256}.{suffix}", len(data))
        address = Address(len(self.names), self._position + BLOCK, len(data))
        self._write(b"".join((header, data, bytes(-len(data) % BLOCK))))
        self._images += 1
        hit("ingest.after_image")
        return address

    def close(self) -> None:
        """Finish the last shard; `names` then holds the sha256 of every shard in order."""
        if self._images:
            self._finish()

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = (self._folder / "next").open("wb")
        self._file.write(data)
        self._hash.update(data)
        self._position += len(data)

    def _finish(self) -> None:
        self._write(END)
        assert self._file is not None  # noqa: S101 - opened by the write above.
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        name = self._hash.hexdigest()
        (self._folder / "next").rename(self._folder / f"{name}.tar")
        self.names.append(name)
        self._file, self._hash, self._position, self._images = None, hashlib.sha256(), 0, 0


def _header(name: str, size: int) -> bytes:
    """Return a plain ustar header; `TarInfo.tobuf` does the same ten times slower."""
    header = bytearray(TEMPLATE)
    header[: len(name)] = name.encode()
    header[124:135] = b"%011o" % size
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)
