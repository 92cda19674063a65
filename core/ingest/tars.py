"""Read tar archives, plain or compressed, forward only and with every read bounded.

`tarfile` parses single headers. Its `TarFile` is not used: it reads extended headers of any size
into memory, can be made to loop (CVE-2025-8194, CVE-2024-6232), and takes a damaged header in the
middle for the archive's end.
"""

import os
import re
import tarfile
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO, NamedTuple

from core.ingest import compression
from core.ingest.archive import (
    IMAGE_SUFFIXES,
    MAX_NAME,
    MEBIBYTE,
    Content,
    Kind,
    Member,
    has_suffix,
)
from topwork.errors import ArchiveTooLarge, ArchiveUnreadable

CHUNK = 64 * 1024
MAX_EXTENSION = MEBIBYTE  # Of a header about the next member; macOS keeps attributes there.
MAX_EXTENSIONS = 8  # Headers about one member; tools write three at most.
MAX_RECORDS = 1000  # Of one such header; each costs a microsecond, and may be five bytes long.
HEAD_BYTES = 512
BLOCK = tarfile.BLOCKSIZE
# Its members do not say how much a compressed stream takes before they are unpacked, so one that
# expands so far beyond its file is taken for a bomb. Drawings may, up to the size.
MAX_RATIO, BOMB_FROM = 100, 256 * MEBIBYTE
EXTENSIONS = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.XGLTYPE,
}
SPARSE = "GNU.sparse."
CHARSET, BINARY = "hdrcharset", b"BINARY"  # Says that a path is bytes of whatever meaning.
KEPT = {b"path", b"linkpath", b"size", CHARSET.encode()}
PAX_RECORD = re.compile(rb"([0-9]{1,9}) ([^=]+)=")
DAMAGE = (*compression.DAMAGE, tarfile.TarError)
CUT_OFF = "The archive ends early or is damaged; what came before was read."


class _Header(NamedTuple):
    name: str | bytes  # Bytes where nothing says what they mean.
    size: int  # Bytes of content that follow.
    kind: Kind
    same_as: str | bytes | None  # Of a hard link: the name of the member with its content.


class Tar:
    """A tar archive, plain or compressed, in a seekable file.

    Args:
        file: The archive.
        sniff: Says what kind of file begins with some bytes.
        most: Bytes that a compressed stream may expand to; None for a plain tar.
    """

    def __init__(
        self, file: BinaryIO, sniff: Callable[[bytes], tuple[Content, str]], *, most: int | None
    ) -> None:
        self.damage: str | None = None
        self._file = file
        self._sniff = sniff
        self._most = most

    @staticmethod
    def recognised(head: bytes) -> bool:
        """Tell whether a file begins with a tar header, by its checksum (POSIX ustar, v7)."""
        try:
            tarfile.TarInfo.frombuf(head[:BLOCK], "utf-8", "surrogateescape")
        except tarfile.TarError:
            return False
        return True

    def members(self) -> Iterator[Member]:
        """Yield what the headers say; `damage` is set when the archive ends in mid-air.

        Raises:
            ArchiveUnreadable: There is no tar at all in the file.
            ArchiveTooLarge: The compressed stream is a bomb.
        """
        for header, stream in self._walk():
            content: Content = "unknown"
            words = ""
            end = stream.position + header.size
            try:
                if header.kind == "file" and not has_suffix(header.name, IMAGE_SUFFIXES):
                    content, words = self._sniff(stream.read(min(header.size, HEAD_BYTES)))
                stream.skip_to(end)
            except DAMAGE:
                self.damage = CUT_OFF
            flaw = "entry_truncated" if self.damage else None
            yield Member(
                header.name, header.size, header.kind, flaw, content, words, header.same_as
            )
            if self.damage:
                return

    def contents(self, wanted: Collection[int]) -> Iterator[tuple[int, bytes | str]]:
        """Yield (position, bytes) of the wanted members, or (position, key of `REJECTED`)."""
        last = max(wanted, default=-1)
        for index, (header, stream) in zip(range(last + 1), self._walk(), strict=False):
            if index in wanted:
                try:
                    data = stream.read_all(header.size)
                except DAMAGE:
                    yield index, "entry_truncated"
                    return
                yield index, data

    def _walk(self) -> Iterator[tuple[_Header, "_Forward"]]:
        """Yield each header with the stream standing at its content."""
        stream = _Forward(self._file, self._most)
        seen = False
        while True:
            try:
                header = _next_header(stream)
            except DAMAGE as error:
                if not seen:
                    raise ArchiveUnreadable from error
                self.damage = CUT_OFF
                return
            if header is None:
                return
            end = stream.position + header.size + -header.size % BLOCK
            seen = True
            yield header, stream
            try:
                stream.skip_to(end)
            except DAMAGE:
                self.damage = CUT_OFF
                return


def _next_header(stream: "_Forward") -> _Header | None:
    """Return the next member's header, extended ones applied; None at the archive's end."""
    extended: dict[str, bytes] = {}
    extensions = 0
    while any(block := stream.read_all(BLOCK)):
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.type in EXTENSIONS:
            extensions += 1
            if extensions > MAX_EXTENSIONS:
                raise tarfile.ReadError("a member has too many headers")
            extended |= _extension(stream, info)
            continue
        if info.type == tarfile.GNUTYPE_SPARSE:
            more = block[482]
            while more:
                more = stream.read_all(BLOCK)[504]
        has_content = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
        size = int(extended.get("size", info.size)) if has_content else 0
        if size < 0:
            raise tarfile.ReadError("a negative size")
        kind = _kind(info, sparse=SPARSE in extended)
        name = _name(extended, "path", info.name)
        target = _name(extended, "linkpath", info.linkname) if info.islnk() else None
        return _Header(name, size, kind, target)
    return None


def _kind(info: tarfile.TarInfo, *, sparse: bool) -> Kind:
    if info.isdir():
        return "folder"
    if info.issym() or info.islnk():
        return "link"
    sparse = sparse or info.type == tarfile.GNUTYPE_SPARSE
    return "file" if info.isreg() and not sparse else "special"


def _extension(stream: "_Forward", info: tarfile.TarInfo) -> dict[str, bytes]:
    """Read a header that is about the next member, as those records of the pax format in use."""
    if info.size > MAX_EXTENSION:
        raise tarfile.ReadError("a header is unreasonably large")
    data = stream.read_all(info.size + -info.size % BLOCK)[: info.size]
    if info.type in {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}:
        key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
        return {key: _cut(data.split(b"\0")[0]), CHARSET: BINARY}
    # Defaults for all members (`git archive` leaves a comment there) are not used.
    return _pax(data) if info.type in {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE} else {}


def _pax(data: bytes) -> dict[str, bytes]:
    """Return path, link target, their encoding, size and any mark of a sparse file in a header.

    Other keys may be as many and as long as the header has room for, so they are not kept (POSIX
    pax: `length key=value` and a newline).
    """
    records: dict[str, bytes] = {}
    at = count = 0
    while at < len(data) and (match := PAX_RECORD.match(data, at)):
        count += 1
        length = int(match[1])
        if at + length > len(data) or length <= match.end() - at or count > MAX_RECORDS:
            raise tarfile.ReadError("an extended header is damaged")
        if match[2] in KEPT:
            records[match[2].decode()] = _cut(data[match.end() : at + length - 1])
        elif match[2].startswith(SPARSE.encode()):
            records[SPARSE] = b""
        at += length
    return records


def _cut(raw: bytes) -> bytes:
    # A character takes up to four bytes, so what is cut off first is never within the result.
    return raw[: 4 * MAX_NAME]


def _name(extended: dict[str, bytes], key: str, short: str) -> str | bytes:
    """Return a name as text where its bytes are said to be UTF-8, or are ASCII; else the bytes.

    Args:
        extended: Of the headers before the member's own.
        key: Which of its names.
        short: That in the member's own header.
    """
    raw = extended.get(key, short.encode("utf-8", "surrogateescape"))
    declared = key in extended and extended.get(CHARSET) != BINARY
    if declared or raw.isascii():
        return _cut(raw).decode("utf-8", "surrogateescape")[:MAX_NAME]
    return raw if len(raw) < MAX_NAME else _cut(raw).decode("utf-8", "replace")[:MAX_NAME]


class _Forward:
    """The tar's bytes in order, with their position, and how much of the file they took."""

    def __init__(self, file: BinaryIO, most: int | None) -> None:
        file.seek(0)
        self.position = 0
        self._file = file
        self._length = os.fstat(file.fileno()).st_size
        self._stream: compression.Expanded = file
        if most is not None:
            self._stream = compression.expanded(file)
        self._most = most

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, at most `CHUNK`."""
        data = self._stream.read(min(size, CHUNK))
        self.position += len(data)
        if self._most is not None:
            if self.position > max(BOMB_FROM, MAX_RATIO * self._file.tell()):
                raise ArchiveTooLarge(
                    f"The archive expands to over {MAX_RATIO} times its size.",
                    hint="No photographs do: it is taken for a bomb. Pack them into a zip.",
                )
            if self.position > self._most:
                raise ArchiveTooLarge(f"The archive expands to more than {self._most} bytes.")
        return data

    def read_all(self, size: int) -> bytes:
        """Return the next `size` bytes, or raise EOFError where the archive ends before that."""
        pieces = []
        while size > 0:
            pieces.append(self.read(size))
            if not pieces[-1]:
                raise EOFError
            size -= len(pieces[-1])
        return b"".join(pieces)

    def skip_to(self, offset: int) -> None:
        """Go forward, or raise EOFError where the archive ends before that."""
        if self._most is None:
            if offset > self._length:
                raise EOFError
            self.position = self._file.seek(offset)
        while self.position < offset:
            if not self.read(offset - self.position):
                raise EOFError
