"""Read a compressed stream forward, by its first bytes: gzip, bzip2, xz or Zstandard.

All are expanded piece by piece; how much in all is the reader's to bound (`core.ingest.tars`). What
a stream may ask for as memory is bounded here.
"""

import bz2
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

CHUNK = 64 * 1024
MEMORY_BYTES = 128 * 1024 * 1024  # As xz and zstd take with their highest ordinary levels.
DAMAGE = (EOFError, OSError, ValueError, zlib.error)


class Expanded(Protocol):
    """A stream that gives expanded bytes, and none at its end."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def recognised(head: bytes) -> bool:
    """Tell whether a file begins like a compressed stream that can be read."""
    return head.startswith(tuple(MAGICS))


def expanded(file: BinaryIO) -> Expanded:
    """Return the expanded content of a file of which `recognised` says that it can be read.

    Its `read` raises one of `DAMAGE` where the stream is cut off, damaged or asks for too much.
    """
    file.seek(0)
    head = file.read(max(map(len, MAGICS)))
    file.seek(0)
    return next(make for magic, make in MAGICS.items() if head.startswith(magic))(file)


class _Streams:
    """One compressed stream after another, as `pbzip2` and `pixz` write them.

    Args:
        file: The compressed bytes.
        make: Returns a decompressor for one stream.
        error: What that raises where its input is damaged.
    """

    def __init__(
        self, file: BinaryIO, make: Callable[[], _Decompressor], error: type[Exception]
    ) -> None:
        self._file, self._make, self._error = file, make, error
        self._current = make()

    def read(self, size: int) -> bytes:
        while size:  # A decompressor that is asked for nothing would never come to its end.
            data = b""
            if self._current.eof:
                data = self._next_stream()
                if not data:
                    return b""
                self._current = self._make()
            elif self._current.needs_input:
                data = self._file.read(CHUNK)
                if not data:
                    raise EOFError
            try:
                found = self._current.decompress(data, size)
            except self._error as error:
                raise ValueError(str(error)) from None
            if found:
                return found
        return b""

    def _next_stream(self) -> bytes:
        """Return the first bytes behind the end of a stream and its padding (.xz format, 2.2)."""
        left = self._current.unused_data.lstrip(b"\0")
        while not left and (more := self._file.read(CHUNK)):
            left = more.lstrip(b"\0")
        return left


def _xz(file: BinaryIO) -> Expanded:
    def make() -> _Decompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_BYTES)

    return _Streams(file, make, lzma.LZMAError)


def _zstandard(file: BinaryIO) -> Expanded:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - few archives need it.
    else:
        from backports import zstd  # noqa: PLC0415 - as above.

    most = {int(zstd.DecompressionParameter.window_log_max): MEMORY_BYTES.bit_length() - 1}
    return _Streams(file, lambda: zstd.ZstdDecompressor(options=most), zstd.ZstdError)


MAGICS: dict[bytes, Callable[[BinaryIO], Expanded]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": lambda file: _Streams(file, bz2.BZ2Decompressor, OSError),
    b"\xfd7zXZ\0": _xz,
    b"\x28\xb5\x2f\xfd": _zstandard,
}
