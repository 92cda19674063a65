"""Read tar and tar.gz archives forward only, with every read bounded.

`tarfile` parses the headers. It reads from a `_Forward` stream that never goes back and refuses
large single reads, so that neither a negative size nor a huge extended header (CVE-2025-8194,
CVE-2024-6232) can make it loop or fill the memory.
"""

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO, cast

from core.archive import IMAGE_SUFFIXES, MAX_RATIO, Content, Kind, Member
from core.errors import ArchiveTooLarge, ArchiveUnreadable
from core.settings import MEBIBYTE

CHUNK = 64 * 1024
HEAD_BYTES = 512
# A stream that expands so far beyond its file is a bomb whatever its members claim.
BOMB_FROM = 256 * MEBIBYTE
DAMAGE = (EOFError, OSError, ValueError, OverflowError, zlib.error, tarfile.TarError)


class Tar:
    """A tar archive, plain or gzipped, in a seekable file.

    Args:
        file: The archive.
        sniff: Says what kind of file begins with some bytes.
        compressed: Whether the tar is inside a gzip stream.
    """

    def __init__(
        self, file: BinaryIO, sniff: Callable[[bytes], Content], *, compressed: bool
    ) -> None:
        self.damage: str | None = None
        self._file = file
        self._sniff = sniff
        self._compressed = compressed

    @staticmethod
    def recognised(head: bytes) -> bool:
        """Tell whether a file begins with a tar header, by its checksum (POSIX ustar, v7)."""
        try:
            tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
        return True

    def members(self) -> Iterator[Member]:
        """Yield what the headers say; `damage` is set when the archive ends in mid-air.

        Raises:
            ArchiveUnreadable: There is no tar at all in the file.
            ArchiveTooLarge: The compressed stream is a bomb.
        """
        for info, stream in self._walk():
            content: Content = "unknown"
            before = stream.packed_position()
            if info.isreg() and not info.name.lower().endswith(IMAGE_SUFFIXES):
                content = self._sniff(stream.read(min(info.size, HEAD_BYTES)))
            packed = info.size
            if self._compressed and info.isreg():
                if not stream.skip_to(info.offset_data + info.size):
                    self.damage = "The archive ends within its last file."
                packed = stream.packed_position() - before
            flaw = "entry_truncated" if self.damage else None
            yield Member(info.name, info.size, packed, _kind(info), flaw, content)

    def contents(self, wanted: Collection[int]) -> Iterator[tuple[int, bytes | str]]:
        """Yield (position, bytes) of the wanted members, or (position, key of `REJECTED`)."""
        for index, (info, stream) in enumerate(self._walk()):
            if index in wanted:
                try:
                    data = b"".join(stream.pieces(info.size))
                except DAMAGE:
                    data = b""
                yield index, data if len(data) == info.size else "entry_truncated"

    def _walk(self) -> Iterator[tuple[tarfile.TarInfo, "_Forward"]]:
        """Yield each header with the stream standing at its data."""
        stream = _Forward(self._file, compressed=self._compressed)
        empty = True
        try:
            with tarfile.TarFile(
                fileobj=cast("BinaryIO", stream), encoding="utf-8", errors="surrogateescape"
            ) as archive:
                while (info := archive.next()) is not None:
                    # The library keeps every header it has seen; nothing here asks for them.
                    archive.getmembers().clear()
                    empty = False
                    yield info, stream
            if not stream.ended_with_zeros():
                self.damage = "The archive ends early or is damaged; what came before was read."
        except DAMAGE as error:
            if empty:
                raise ArchiveUnreadable(
                    "The upload is neither a zip nor a tar archive, or is damaged from its start."
                ) from error
            self.damage = "The archive ends early or is damaged; what came before was read."


def _kind(info: tarfile.TarInfo) -> Kind:
    if info.isdir():
        return "folder"
    if info.issym() or info.islnk():
        return "link"
    return "file" if info.isreg() and not info.issparse() else "special"


class _Forward(io.RawIOBase):
    """The tar's bytes in order: seeking forward skips, seeking back and large reads fail."""

    def __init__(self, file: BinaryIO, *, compressed: bool) -> None:
        file.seek(0)
        self._file = file
        self._length = os.fstat(file.fileno()).st_size
        self._stream = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if compressed else file
        self._compressed = compressed
        self._position = 0
        self._last = b""

    def tell(self) -> int:
        return self._position

    def packed_position(self) -> int:
        """Return how far the file itself was read."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            raise tarfile.ReadError("a header is unreasonably large")
        self._last = self._stream.read(size)
        self._position += len(self._last)
        packed = max(self._file.tell(), 1)
        if self._compressed and self._position > max(BOMB_FROM, MAX_RATIO * packed):
            raise ArchiveTooLarge(f"The archive expands to over {MAX_RATIO} times its size.")
        return self._last

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or offset < self._position:
            raise tarfile.ReadError("a header points backwards")
        if not self.skip_to(offset):
            raise tarfile.ReadError("unexpected end of data")
        return self._position

    def skip_to(self, offset: int) -> bool:
        """Go forward; False where the archive ends before that."""
        if not self._compressed:
            if offset <= self._length:
                self._position = self._file.seek(offset)
            return offset <= self._length
        try:
            for _ in self.pieces(offset - self._position):
                pass
        except DAMAGE:
            return False
        return self._position == offset

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes in bounded reads; fewer where the archive ends."""
        while size > 0 and (piece := self.read(min(size, CHUNK))):
            size -= len(piece)
            yield piece

    def ended_with_zeros(self) -> bool:
        """Tell whether the last thing read was the empty block that ends every tar."""
        return len(self._last) == tarfile.BLOCKSIZE and not any(self._last)
