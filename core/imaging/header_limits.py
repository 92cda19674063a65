"""Count the parts of an image file that Pillow walks in Python while it holds the interpreter."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

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
    most = most_parts(content)
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


class Directory(NamedTuple):
    """A directory of a TIFF: where it begins, its byte order, and whether its numbers are wide."""

    at: int
    order: str
    large: bool

    @classmethod
    def first_of(cls, content: bytes) -> "Directory":
        """Return the first one of a file; raises struct.error where it ends before."""
        order = "<" if content[:1] == b"I" else ">"
        large = content[2:4] in (b"+\0", b"\0+")
        at = int(struct.unpack_from(order + "Q", content, 8)[0]) if large else 0
        return cls(at or int(struct.unpack_from(order + "I", content, 4)[0]), order, large)

    def next_of(self, content: bytes) -> "Directory | None":
        """Return the one behind it, if there is any; raises struct.error where the file ends."""
        tags, first, _, size = self._shape(content)
        form = "Q" if self.large else "I"
        (at,) = struct.unpack_from(self.order + form, content, first + tags * size)
        return self._replace(at=int(at)) if at else None

    def entries(self, content: bytes, most: int) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield tag, type, number of values and what stands for them, of `most` entries at most."""
        tags, first, form, size = self._shape(content)
        start = struct.calcsize(self.order + form)
        for entry in range(min(tags, most)):
            at = first + entry * size
            tag, kind, count = struct.unpack_from(self.order + form, content, at)
            yield tag, kind, count, content[at + start : at + size]

    def parts(self, content: bytes, most: int) -> int:
        """Return how many values one tag has at most, or how many tags there are."""
        counts = [self._shape(content)[0]]
        for tag, kind, count, _ in self.entries(content, most):
            if kind not in _BYTEWISE and tag < _PRIVATE and count * 2 <= len(content):
                counts.append(count)
        return max(counts)

    def _shape(self, content: bytes) -> tuple[int, int, str, int]:
        if self.large:
            return (
                int(struct.unpack_from(self.order + "Q", content, self.at)[0]),
                self.at + 8,
                "HHQ",
                20,
            )
        return (
            int(struct.unpack_from(self.order + "H", content, self.at)[0]),
            self.at + 2,
            "HHI",
            12,
        )


def most_parts(content: bytes) -> int:
    """Return how many parts a file of this size may have."""
    return MAX_PARTS + len(content) // BYTES_A_PART


def _values(content: bytes, most: int) -> int:
    """Return how many values one tag of a TIFF has at most, or how many tags there are."""
    return Directory.first_of(content).parts(content, most)


_COUNTS: dict[bytes, Callable[[bytes, int], int]] = {
    b"\xff\xd8": _segments,
    b"\x89P": _chunks,
    b"II": _values,
    b"MM": _values,
}
