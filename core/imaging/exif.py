"""The orientation in EXIF data, read without Pillow, which fails on files whose pixels are good."""

import struct


def orientation(exif: bytes) -> int | None:
    """Find tag 0x0112 of the first directory (TIFF 6.0 section 2); None when it is corrupt."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if (tag, kind) == (0x0112, 3):
                return valid(value)
    except struct.error:
        return None
    return 1


def valid(number: object) -> int | None:
    """Return an orientation, 1 to 8; None for anything else."""
    return number if isinstance(number, int) and number in range(1, 9) else None
