"""The nasty corpus: what no honest user sends, by the numbers of reliability.md 4.1."""

import io
import struct
import tarfile
import zlib

import numpy as np
from PIL import Image

from tests.archives import Entry, folder, picture, raw_zip, special, tar_of, zip_of
from tests.core.ingested import GOOD
from tests.pictures import chunk, encode, gif_of_nothing, photo, plain_png, png_header, tiff

MEBIBYTE = 1024 * 1024

# What is added to good files in a zip, and what becomes of it.
ZIPPED: dict[str, tuple[list[Entry], dict[str, str]]] = {
    "1 parent": ([Entry(b"../x.png", picture(900))], {"../x.png": "path_traversal"}),
    "2 absolute": ([Entry(b"/x.png", picture(900))], {"/x.png": "path_absolute"}),
    "3 backslash": ([Entry(b"..\\x.png", picture(900))], {"..\\x.png": "path_traversal"}),
    "4 drive": ([Entry(b"C:\\x.png", picture(900))], {"C:\\x.png": "path_drive"}),
    "5 nul": ([Entry(b"cat/x\0.png", picture(900))], {"cat/x\\0.png": "name_nul"}),
    "6 link": (
        [Entry(b"cat/x.png", b"/etc/passwd", attributes=0o120777 << 16)],
        {"cat/x.png": "link"},
    ),
    "11 setuid": ([Entry(b"cat/x.png", picture(900), attributes=0o104755 << 16)], {}),
    "12 twice": ([Entry(b"cat/0.png", picture(900))], {"cat/0.png": "name_duplicate"}),
    "13 case": ([Entry(b"cat/0.PNG", picture(900))], {"cat/0.PNG": "name_case_clash"}),
    "14 unicode": (
        [
            Entry("cat/\u00e9.png".encode(), picture(900)),
            Entry("cat/e\u0301.png".encode(), picture(901)),
        ],
        {"cat/\u00e9.png": "name_unicode_clash"},
    ),
    "15 long name": (
        [Entry(b"cat/" + b"x" * 300 + b".png", picture(900))],
        {"cat/" + "x" * 300 + ".png": "path_too_long"},
    ),
    "16 deep": (
        [Entry(b"d/" * 100 + b"x.png", picture(900))],
        {"d/" * 100 + "x.png": "path_too_deep", "d": "class_lost"},
    ),
    "16 deeper": (
        [Entry(b"d/" * 500 + b"x.png", picture(900))],
        # 1005 bytes are that before they are too deep.
        {"d/" * 500 + "x.png": "path_too_long", "d": "class_lost"},
    ),
    "17 zeros": (
        [Entry(b"cat/x.png", bytes(40 * MEBIBYTE)), Entry(b"cat/y.png", bytes(100 * MEBIBYTE))],
        {"cat/x.png": "not_an_image", "cat/y.png": "entry_too_large"},
    ),
    "18 lie": ([Entry(b"cat/x.png", picture(900), size=20)], {"cat/x.png": "size_mismatch"}),
    "19 overlap": (
        [Entry(b"dog/x.png", picture(0), offset=0)],
        {
            "cat/0.png": "entries_overlap",
            "dog/x.png": "entries_overlap",
            "cat": "class_too_small",  # Two are left, and one of them validates.
        },
    ),
    "22 encrypted": ([Entry(b"cat/x.png", b"x" * 20, flags=1)], {"cat/x.png": "encrypted"}),
    "23 nested": ([Entry(b"cat/x.zip", zip_of(GOOD))], {"cat/x.zip": "nested_archive"}),
    "24 junk": (
        [Entry(b"__MACOSX/cat/._0.png", b"x"), Entry(b"cat/.DS_Store", b"x")],
        {"__MACOSX/cat/._0.png": "system_file", "cat/.DS_Store": "system_file"},
    ),
    "25 empty class": ([Entry(b"owl/", method=0)], {"owl": "class_empty"}),
    "27 by content": (
        [
            Entry(b"cat/x.gif", picture(900, "JPEG") + zip_of({"a": b"b"})),
            Entry(b"cat/y", picture(901)),
        ],
        {},
    ),
    "28 methods": (
        [Entry(b"cat/%d.png" % at, b"x", method=at) for at in (9, 12, 14)],
        {f"cat/{at}.png": "compression_unsupported" for at in (9, 12, 14)},
    ),
    "28 descriptor": ([Entry(b"cat/x.png", picture(900), descriptor=True)], {}),
}

# The same in a tar.
TARRED: dict[str, tuple[dict[str, bytes | tarfile.TarInfo], dict[str, str]]] = {
    "1 parent": ({"../x.png": picture(900)}, {"../x.png": "path_traversal"}),
    "2 absolute": ({"/x.png": picture(900)}, {"/x.png": "path_absolute"}),
    "7 link and through": (
        {"cat/out": special(tarfile.SYMTYPE, "/tmp"), "cat/out/x.png": picture(900)},  # noqa: S108
        {"cat/out": "link"},
    ),
    "8 hard link": (
        {"cat/x.png": special(tarfile.LNKTYPE, "/etc/passwd")},
        {"cat/x.png": "link"},
    ),
    "9 pipe": ({"cat/x.png": special(tarfile.FIFOTYPE)}, {"cat/x.png": "special_file"}),
    "10 device": ({"cat/x.png": special(tarfile.CHRTYPE)}, {"cat/x.png": "special_file"}),
    "16 deep": (
        {"d/" * 500 + "x.png": picture(900), "d/" * 100 + "x.png": picture(901)},
        {
            "d/" * 500 + "x.png": "path_too_long",
            "d/" * 100 + "x.png": "path_too_deep",
            "d": "class_lost",
        },
    ),
    "17 zeros": ({"cat/x.png": bytes(51 * MEBIBYTE)}, {"cat/x.png": "entry_too_large"}),
    "26 dense": ({"cat/x.png": bytes(20 * MEBIBYTE)}, {"cat/x.png": "not_an_image"}),
}

# Whole archives, and the code of the refusal.
HOPELESS: list[tuple[bytes, str]] = [
    (raw_zip([Entry(b"../x.png", picture(1))]), "archive_unsafe"),
    (tar_of({"a/x.png": special(tarfile.SYMTYPE, "/etc")}), "archive_unsafe"),
    (zip_of(GOOD)[:-200], "archive_unreadable"),
    (b"hello", "archive_unreadable"),
    (b"", "archive_unreadable"),
    (zip_of({}), "dataset_invalid"),
    (zip_of({"cat/a.txt": b"x", "dog/b.jpg": b"text"}), "dataset_invalid"),
    (zip_of({f"{number}.png": picture(number) for number in range(3)}), "dataset_invalid"),
    (zip_of(folder("cat")), "too_few_classes"),
    (zip_of(folder("cat") | {"dog/x.png": b"<html>"}), "too_few_classes"),
    (zip_of(folder("train/cat", "train/dog", "owl")), "layout_ambiguous"),
]


def _gif() -> bytes:
    frames = [Image.fromarray(np.full((16, 16), n % 251, np.uint8)) for n in range(500)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def _pages() -> bytes:
    out = io.BytesIO()
    photo().save(out, "TIFF", save_all=True, append_images=[photo(), photo()])
    return out.getvalue()


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(photo(), "JPEG", exif=exif)


def _scans() -> bytes:
    """35 megapixels in 300 kB that are gone over forty times."""
    data = encode(Image.new("RGB", (6000, 5900), (9, 99, 9)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 30 + data[-2:]


_TEXT_BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 * MEBIBYTE), 9))
_PSD = b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(64)
# A sequence header: 64 x 48 pixels, 25 frames a second.
_MPEG = b"\0\0\1\xb3\x04\x00\x30\x13\xff\xff\xe0\x18" + bytes(64) + b"\0\0\1\xb7"
_GREY = np.linspace(0, 65535, 64 * 48).reshape(48, 64)

# The name of the file, its bytes, and whether it is an image to us; what is not is reported.
IMAGES: dict[str, tuple[bytes, bool]] = {
    "29-empty.png": (b"", False),
    "30-text.jpg": (b"this is not a photograph", False),
    "31-page.png": (b"<!doctype html><html><body>x</body></html>", False),
    "32-drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>x</script></svg>', False),
    "33-script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", False),
    "34-cut.jpg": (encode(photo(), "JPEG", quality=95)[:900], False),
    "35-crc.png": (picture(1)[:40] + b"\xff" + picture(1)[41:], False),
    "36-1600mp.png": (png_header(40_000, 40_000) + chunk(b"IEND", b""), False),
    "37-81mp.png": (plain_png(9000, 9000), False),
    "38-169mp.png": (plain_png(13_000, 13_000), False),
    "39-thread.png": (plain_png(1, 65_000), False),
    "40-nothing.png": (png_header(0, 0) + chunk(b"IEND", b""), False),
    "41-point.png": (plain_png(1, 1), True),
    "42-cmyk.jpg": (encode(photo().convert("CMYK"), "JPEG"), True),
    "43-16bit.png": (encode(Image.fromarray(_GREY.astype(np.uint16)), "PNG"), True),
    "44-float.tif": (tiff(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), 32, 1, 3), True),
    "45-palette.png": (encode(photo().quantize(9), "PNG", transparency=0), True),
    "46-rgba.png": (encode(photo().convert("RGBA"), "PNG"), True),
    "46-la.png": (encode(photo().convert("LA"), "PNG"), True),
    "46-bits.png": (encode(photo().convert("1"), "PNG"), True),
    "47-film.gif": (_gif(), True),
    "48-pages.tif": (_pages(), True),
    **{f"49-turned{number}.jpg": (_turned(number), True) for number in range(1, 9)},
    "50-exif.jpg": (encode(photo(63, 48), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), True),
    "51-words.png": (plain_png(4, 4, extra=_TEXT_BOMB), False),
    "52-psd.png": (_PSD, False),
    "52-mpeg.png": (_MPEG, False),
    "52-scans.jpg": (_scans(), False),
    "52-fill.gif": (gif_of_nothing(65_535), False),
}
