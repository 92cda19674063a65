"""Pictures for tests: smooth ones, tiny ones of any size, and headers Pillow cannot write."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from core.imaging.decode import decode


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture with a distinct colour in each corner."""
    x = np.linspace(0, 1, width)[None, :, None]
    y = np.linspace(0, 1, height)[:, None, None]
    corners = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [250, 250, 0]], dtype=float)
    top = corners[0] * (1 - x) + corners[1] * x
    bottom = corners[2] * (1 - x) + corners[3] * x
    return Image.fromarray((top * (1 - y) + bottom * y).astype(np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png_header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body)


def plain_png(width: int, height: int, extra: bytes = b"") -> bytes:
    """A grey PNG of constant 7, a few bytes for any size."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" + b"\7" * width) for _ in range(height))
    body = rows + packer.flush()
    return png_header(width, height) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def gif_of_nothing(side: int) -> bytes:
    """A GIF of one frame without a pixel, whose place is to be filled when it has been shown."""
    screen = b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0)
    shown = b"!\xf9\x04" + bytes([2 << 2, 0, 0, 0]) + b"\0"
    return screen + shown + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\2\0;"


def pixels_of(data: bytes, **options: Any) -> np.ndarray:
    image = decode(data, **options)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int = 1,
    sample_format: int = 1,
    tile: tuple[int, int] | None = None,
) -> bytes:
    """A little-endian grey TIFF with exactly these tags, which Pillow cannot write."""
    body = samples.tobytes()
    height, width = samples.shape
    tiles = [] if tile is None else [(322, 3, tile[0]), (323, 3, tile[1]), (324, 4, 8), (325, 4, 1)]
    entries = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8 + 2 + (10 + len(tiles)) * 12 + 4),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(body)),
        *tiles,
        (339, 3, sample_format),
    ]
    ifd = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + ifd + bytes(4) + body
