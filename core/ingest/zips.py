"""Read zip archives without trusting them (APPNOTE.TXT 6.3.10).

The standard library's `zipfile` builds the whole directory before it can be counted, believes
declared sizes and inflates bzip2 and LZMA without a bound. Here the directory is scanned record by
record, every length is checked before memory is spent on it, and members may not share bytes.
"""

import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from itertools import islice
from typing import BinaryIO, NamedTuple

from core.ingest.archive import IMAGE_SUFFIXES, MAX_NAME, Content, Kind, Member, has_suffix
from topwork.errors import ArchiveUnreadable

LOCAL = struct.Struct("<4s5H3I2H")  # Signature .. extra length, 4.3.7
ENTRY = struct.Struct("<4s6H3I5H2I")  # Signature .. local header offset, 4.3.12
END = struct.Struct("<4s4H2IH")  # 4.3.16
END64_LOCATOR = struct.Struct("<4sIQI")  # 4.3.15
END64 = struct.Struct("<4sQ2H2I4Q")  # 4.3.14
DAMAGED = "The zip's table of contents is damaged."
WINDOW = 1024 * 1024  # Of the directory; the longest entry is under a fifth of it.
MAX_COMMENT = 0xFFFF
UNKNOWN = 0xFFFFFFFF  # The value stands in the ZIP64 extra field.

STORED, DEFLATED = 0, 8
ENCRYPTED_BITS = 0x2041  # Traditional, strong, and an encrypted directory.
UTF8_BIT = 0x800
WIDE, UNICODE_PATH = 0x0001, 0x7075  # Extra fields: 4.5.3 and 4.6.9.
HEAD_BYTES = 512
SMALL_HEAD = 4096  # Packed bytes that are enough to see the first HEAD_BYTES.
FILE_TYPE, FOLDER_TYPE, LINK_TYPE, REGULAR_TYPE = 0xF000, 0x4000, 0xA000, 0x8000


class _Record(NamedTuple):
    """The directory's entry of one member."""

    name: str | bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    attributes: int
    offset: int  # Of the local header, from the file's start.
    end: int  # Least offset at which the member's bytes can end.


class _Directory(NamedTuple):
    start: int  # From the file's start.
    size: int
    shift: int  # Bytes that stand before the archive in the file.


def has_zip_directory(file: BinaryIO) -> bool:
    """Tell whether the file ends as a zip does."""
    return _find_directory(file) is not None


class Zip:
    """A zip archive in a seekable file.

    Args:
        file: The archive.
        sniff: Says what kind of file begins with some bytes.
        most: How many members are looked at; one more is listed, to show that there are more.
    """

    def __init__(
        self, file: BinaryIO, sniff: Callable[[bytes], tuple[Content, str]], most: int
    ) -> None:
        directory = _find_directory(file)
        file.seek(0)
        starts_here = file.read(2) == b"PK"
        # A zip that begins at the file's start but ends with another one's directory was cut off
        # just behind a zip inside it.
        if directory is None or (starts_here and directory.shift):
            raise ArchiveUnreadable(
                "The zip ends early: its table of contents is missing.",
                hint="Upload the file again; the transfer was probably cut off.",
            )
        self.damage: str | None = None
        self._file = file
        self._sniff = sniff
        self._directory = directory.start
        self._list = list(islice(_records(file, directory), most + 1))

    def members(self) -> Iterator[Member]:
        """Yield what the archive's directory declares; overlapping members carry that flaw."""
        shared = self._overlaps()
        for index, record in enumerate(self._list):
            content: Content = "unknown"
            words = ""
            flaw = _flaw(record) or ("entries_overlap" if index in shared else None)
            kind = _kind(record)
            readable = kind == "file" and flaw is None and record.size
            if readable and not has_suffix(record.name, IMAGE_SUFFIXES):
                content, words = self._sniff(self._head(record))
            yield Member(record.name, record.size, kind, flaw, content, words)

    def contents(self, wanted: Collection[int]) -> Iterator[tuple[int, bytes | str]]:
        """Yield (position, bytes) of the wanted members, or (position, key of `REJECTED`)."""
        for index in sorted(wanted):
            yield index, self._read(self._list[index])

    def _overlaps(self) -> set[int]:
        """Return the positions of members that share bytes with another one or the directory."""
        spans = sorted((record.offset, record.end, i) for i, record in enumerate(self._list))
        shared: set[int] = set()
        reach, holder = -1, -1
        for offset, end, index in spans:
            if offset < reach:
                shared |= {holder, index}
            if end > reach:
                reach, holder = end, index
            if end > self._directory:
                shared.add(index)
        return shared

    def _data_start(self, record: _Record) -> int | None:
        self._file.seek(record.offset)
        header = self._file.read(LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(b"PK\x03\x04"):
            return None
        *_, name_length, extra_length = LOCAL.unpack(header)
        return record.offset + LOCAL.size + int(name_length) + int(extra_length)

    def _head(self, record: _Record) -> bytes:
        start = self._data_start(record)
        if start is None:
            return b""
        self._file.seek(start)
        packed = self._file.read(min(record.packed, SMALL_HEAD))
        if record.method == STORED:
            return packed[:HEAD_BYTES]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, HEAD_BYTES)
        except zlib.error:
            return b""

    def _read(self, record: _Record) -> bytes | str:
        start = self._data_start(record)
        if start is None:
            return "entry_corrupt"
        self._file.seek(start)
        packed = self._file.read(record.packed)
        if len(packed) != record.packed:
            return "entry_truncated"
        data = packed
        if record.method == DEFLATED:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                data = inflate.decompress(packed, record.size + 1)
            except zlib.error:
                return "entry_corrupt"
            if not inflate.eof and len(data) <= record.size:
                return "entry_corrupt"
        if len(data) != record.size:
            return "size_mismatch"
        return data if zlib.crc32(data) == record.crc else "entry_corrupt"


def _find_directory(file: BinaryIO) -> _Directory | None:
    """Find the end record from the back; sizes and offsets are checked against the file."""
    length = file.seek(0, 2)
    tail_start = max(0, length - END.size - MAX_COMMENT)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < END.size:
        return None
    _, _, _, _, count, size, offset, _ = END.unpack_from(tail, at)
    end = tail_start + at
    if UNKNOWN in {size, offset} or count == UNKNOWN >> 16:
        size, offset, end = _find_directory64(file, end) or (size, offset, end)
    shift = end - size - offset
    if size < 0 or shift < 0:
        return None
    return _Directory(end - size, size, shift)


def _find_directory64(file: BinaryIO, end: int) -> tuple[int, int, int] | None:
    """Return (directory size, offset, offset of the ZIP64 end record) if there is such a record."""
    file.seek(max(0, end - END64_LOCATOR.size - END64.size))
    block = file.read(END64.size + END64_LOCATOR.size)
    if len(block) < END64.size + END64_LOCATOR.size:
        return None
    if block[END64.size :][:4] != b"PK\x06\x07" or block[:4] != b"PK\x06\x06":
        return None
    *_, size, offset = END64.unpack_from(block)
    return int(size), int(offset), end - END64_LOCATOR.size - END64.size


def _records(file: BinaryIO, directory: _Directory) -> Iterator[_Record]:
    """Read the directory entry by entry.

    Raises:
        ArchiveUnreadable: It is damaged.
    """
    at, left = directory.start, directory.size
    while left >= ENTRY.size:
        file.seek(at)
        window = file.read(min(left, WINDOW))
        used = 0
        while len(window) - used >= ENTRY.size:
            length = _entry_length(window, used)
            if length > len(window) - used:
                break
            yield _parse(window[used : used + length], directory.shift)
            used += length
        if used == 0:
            raise ArchiveUnreadable(DAMAGED)
        at, left = at + used, left - used


def _entry_length(window: bytes, at: int) -> int:
    if window[at : at + 4] != b"PK\x01\x02":
        raise ArchiveUnreadable(DAMAGED)
    name, extra, comment = struct.unpack_from("<3H", window, at + 28)
    return ENTRY.size + int(name) + int(extra) + int(comment)


def _parse(entry: bytes, shift: int) -> _Record:
    fields = ENTRY.unpack_from(entry)
    _, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields[:12]
    attributes, offset = fields[15], fields[16]
    raw = entry[ENTRY.size :][: min(name_length, MAX_NAME)]
    extra = entry[ENTRY.size + name_length :][:extra_length]
    if UNKNOWN in {packed, size, offset}:
        size, packed, offset = _wide(extra, size, packed, offset)
    offset += shift
    end = offset + LOCAL.size + name_length + packed
    name = _name(raw, flags, extra)
    return _Record(name, flags, method, crc, packed, size, attributes, offset, end)


def _name(raw: bytes, flags: int, extra: bytes) -> str | bytes:
    """Return a name as text where the archive says what its bytes mean, else the bytes."""
    if flags & UTF8_BIT or raw.isascii():
        return raw.decode("utf-8", "surrogateescape")
    if len(raw) >= MAX_NAME:  # It was cut, perhaps within a character, and is refused for that.
        return raw.decode("utf-8", "replace")
    field = _extra_field(extra, UNICODE_PATH)
    # The checksum tells that no later tool has renamed the member without knowing this field.
    if field[:1] == b"\x01" and field[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
        with suppress(UnicodeDecodeError):
            return field[5:].decode()[:MAX_NAME]
    return raw


def _extra_field(extra: bytes, wanted: int) -> bytes:
    """Return the content of an extra field (4.5.1); nothing where there is none."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        if tag == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + int(length)
    return b""


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Replace the values that stand in the ZIP64 extra field (4.5.3)."""
    body = _extra_field(extra, WIDE)
    wide = iter(int(value) for (value,) in struct.iter_unpack("<Q", body[: len(body) & ~7]))
    values = [next(wide, v) if v == UNKNOWN else v for v in (size, packed, offset)]
    return values[0], values[1], values[2]


def _kind(record: _Record) -> Kind:
    # The upper half holds Unix modes where a Unix tool wrote them, and zeros otherwise.
    file_type = record.attributes >> 16 & FILE_TYPE
    if file_type == LINK_TYPE:
        return "link"
    # Of bytes in a code page, a last backslash may be half a character.
    ends = ("/", "\\") if isinstance(record.name, str) else ("/",)
    if has_suffix(record.name, ends) or file_type == FOLDER_TYPE:
        return "folder"
    return "file" if file_type in {0, REGULAR_TYPE} else "special"


def _flaw(record: _Record) -> str | None:
    if record.flags & ENCRYPTED_BITS:
        return "encrypted"
    if record.method not in {STORED, DEFLATED}:
        return "compression_unsupported"
    # Deflate never grows data by more than 5 bytes a block; more is a lie about one of the two.
    if record.packed > record.size + record.size // 1000 + 1024:
        return "size_mismatch"
    if record.method == STORED and record.packed != record.size:
        return "size_mismatch"
    return None
