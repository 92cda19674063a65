"""Files of many tiny parts, which cost Pillow seconds of Python before any limit."""

import struct
import time

import pytest

from core.imaging.decode import probe
from tests.pictures import chunk, encode, photo, plain_png
from topwork.errors import ImageUndecodable

MEBIBYTE = 1024 * 1024


def tiff_of_strips(rows: int, order: str = "<", *, strips: int | None = None) -> bytes:
    """A grey TIFF, a pixel wide, that stores each row by itself."""
    count = rows if strips is None else strips
    tables = 8 + 2 + 9 * 12 + 4
    tags = [
        (256, 4, 1, 1500),
        (257, 4, 1, rows),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, count, tables),
        (277, 3, 1, 1),
        (278, 4, 1, 1),
        (279, 4, count, tables + 4 * count),
    ]
    short = {"<": lambda value: value, ">": lambda value: value << 16}[order]
    ifd = b"".join(
        struct.pack(order + "HHII", tag, kind, n, short(value) if kind == 3 else value)
        for tag, kind, n, value in tags
    )
    head = b"II*\0" if order == "<" else b"MM\0*"
    offsets = struct.pack(order + "I", tables) * count
    sizes = struct.pack(order + "I", 1500) * count
    start = head + struct.pack(order + "IH", 8, len(tags)) + ifd + bytes(4)
    return start + offsets + sizes + bytes(1500)


def jpeg_with(junk: bytes) -> bytes:
    data = encode(photo(), "JPEG")
    return data[:2] + junk + data[2:]


HOSTILE = {
    "segments": jpeg_with(b"\xff\xe5\0\2" * (MEBIBYTE // 4)),
    "padding": jpeg_with(b"\xff" * MEBIBYTE),
    "junk": jpeg_with(b"\xff\xd0" + b"\1" * MEBIBYTE),
    "restarts": jpeg_with(b"\xff\xd0" * (MEBIBYTE // 2)),
    "no length": jpeg_with((b"\xff\xf0" + b"\1" * 65_533) * 16),
    "chunks": plain_png(4, 4, extra=chunk(b"teSt", b"") * (MEBIBYTE // 12)),
    "data": plain_png(4, 4)[:-12] + chunk(b"IDAT", b"") * (MEBIBYTE // 12) + chunk(b"IEND", b""),
    "strips": tiff_of_strips(1000, strips=MEBIBYTE // 8),
    "strips of the other order": tiff_of_strips(1000, ">", strips=MEBIBYTE // 8),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_tiny_parts_is_refused_at_once(name: str) -> None:
    began = time.process_time()
    with pytest.raises(ImageUndecodable, match="parts"):
        probe(HOSTILE[name])
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_may_store_each_row_by_itself(order: str) -> None:
    info = probe(tiff_of_strips(20_000, order))
    assert (info.width, info.height) == (1500, 20_000)


def test_a_png_may_come_in_many_pieces() -> None:
    pieces = plain_png(4, 4, extra=chunk(b"teSt", b"") * 15_000)
    assert probe(pieces).width == 4


def test_a_jpeg_may_carry_much_beside_its_picture() -> None:
    assert probe(jpeg_with((b"\xff\xe5\xff\xff" + bytes(65_533)) * 300)).width == 64
