"""Count the parts of an image file that Pillow walks in Python while it holds the interpreter."""

import struct
from collections.abc import Callable

from topwork.errors import ImageUndecodable

MAX_PARTS = 20_000  # As many as an image may have rows: a TIFF may store each row by itself.
BYTES_A_PART = 1024  # Honest ones are larger, so that large files may have more.

# Markers of a JPEG. Those to which Pillow gives no meaning have no length to it either.
_LAST = {0xD9, 0xDA}
_PADDING = 0xFF
_WITH_LENGTH = {*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDB, 0xF0), 0xFE}

_BYTEWISE = {1, 2, 6, 7}  # Types of TIFF values that are taken as one piece.
_PRIVATE = 32_768  # The first TIFF tag that no decoder here looks at.


def check_parts(content: bytes) -> None:
    """Go on with a file that has no more parts than an honest one of its size.

    Raises:
        ImageUndecodable: It has more.
        struct.error: It ends within its directory.
    """
    most = MAX_PARTS + len(content) // BYTES_A_PART
    count = _COUNTS.get(content[:2])
    if count is not None and count(content, most) > most:
        raise ImageUndecodable(f"The image is broken: its file has more than {most} parts.")


def _segments(content: bytes, most: int) -> int:
    """Count the segments of a JPEG up to its first scan, and the bytes between them."""
    parts, at = 0, 2
    while parts <= most and 0 <= (start := content.find(b"\xff", at)) < len(content) - 3:
        kind = content[start + 1]
        parts += 1 + start - at
        if kind in _LAST:
            break
        at = start + 1 if kind == _PADDING else start + 2
        if kind in _WITH_LENGTH:
            at += int.from_bytes(content[at : at + 2])
    return parts


def _chunks(content: bytes, most: int) -> int:
    """Count the chunks of a PNG."""
    parts, at = 0, 8
    while parts <= most and at + 12 <= len(content):
        at += 12 + int.from_bytes(content[at : at + 4])
        parts += 1
    return parts


def _values(content: bytes, most: int) -> int:
    """Return how many values one tag of a TIFF has at most, or how many tags there are."""
    order = "<" if content[:1] == b"I" else ">"
    large = content[2:4] in (b"+\0", b"\0+")
    at = int(struct.unpack_from(order + "Q", content, 8)[0]) if large else 0
    at = at or int(struct.unpack_from(order + "I", content, 4)[0])
    tags, first, form, size = (
        (struct.unpack_from(order + "Q", content, at)[0], at + 8, "HHQ", 20)
        if large
        else (struct.unpack_from(order + "H", content, at)[0], at + 2, "HHI", 12)
    )
    counts = [tags]
    for entry in range(min(tags, most)):
        tag, kind, count = struct.unpack_from(order + form, content, first + entry * size)
        if kind not in _BYTEWISE and tag < _PRIVATE and count * 2 <= len(content):
            counts.append(count)
    return int(max(counts))


_COUNTS: dict[bytes, Callable[[bytes, int], int]] = {
    b"\xff\xd8": _segments,
    b"\x89P": _chunks,
    b"II": _values,
    b"MM": _values,
}
