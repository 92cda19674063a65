"""The chunks of a PNG: their checksums, and what Pillow does not read of them."""

import struct
import zlib
from typing import NamedTuple

from topwork.errors import ImageUndecodable


class PngFacts(NamedTuple):
    """What a PNG says: its EXIF data, the bits of a sample, how many of them mean something.

    `significant` is the most of any channel (`sBIT`); 0 where nothing is said.
    """

    exif: bytes | None = None
    depth: int = 8
    significant: int = 0


def checked(content: bytes) -> PngFacts:
    """Check every chunk's CRC up to IEND, which Pillow skips for pixel data.

    Raises:
        ImageUndecodable: A chunk is cut off or does not match its CRC.
    """
    facts = PngFacts()
    view = memoryview(content)
    at = 8
    while at + 12 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, at)
        end = at + 8 + length
        if end + 4 > len(view):
            break
        (crc,) = struct.unpack_from(">I", view, end)
        if zlib.crc32(view[at + 4 : end]) != crc:
            raise ImageUndecodable(f"The image is broken: bad CRC in PNG chunk {kind!r}.")
        if kind == b"IEND":
            return facts
        body = view[at + 8 : end]
        if kind == b"IHDR" and length > 8:  # noqa: PLR2004 - width and height come first.
            facts = facts._replace(depth=body[8])
        elif kind == b"eXIf":
            facts = facts._replace(exif=bytes(body))
        elif kind == b"sBIT" and length:
            facts = facts._replace(significant=max(body))
        at = end + 4
    raise ImageUndecodable("The image is broken: the PNG file is truncated.")
