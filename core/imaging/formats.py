"""Which image formats are read, by their first bytes, and the plugin of Pillow for each."""

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from core.imaging.confined import Avif, Heif


class Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG whose EXIF is left to this module; also the first picture of an MPO."""

    def getexif(self) -> Image.Exif:
        """Return none; Pillow's own reader fails on files whose pixels are good."""
        return Image.Exif()


PLUGINS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8\xff", Jpeg),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"GIF87a", GifImagePlugin.GifImageFile),
    (b"GIF89a", GifImagePlugin.GifImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"II+\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0+", TiffImagePlugin.TiffImageFile),
)

# Brands of `ftyp` boxes: ISO/IEC 23008-12 and the registry of mp4ra.org. The first one tells what a
# file is, unless it is a general one; what is inside is then told by those behind it.
_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AV1 = {b"avif", b"avis", b"avio"}
_GENERAL = {b"mif1", b"mif2", b"mif3", b"msf1", b"miaf"}
MOST_BRANDS = 64
HEIC_EXTRA = "topwork[heic]"

_BY_EXTRA = ("an HEIC photograph", "an HEIF photograph")

# Images that are not read, and what else is taken for one; named, so that a user learns what a file
# is instead of that it is "broken".
_UNREAD_IMAGES = (
    *((b"....ftyp" + brand, _BY_EXTRA[0]) for brand in _HEVC),
    *((b"....ftyp" + brand, _BY_EXTRA[1]) for brand in _GENERAL),
    (b"....ftypcrx ", "a Canon raw photograph"),
    (b"FUJIFILMCCD-RAW", "a Fujifilm raw photograph"),
    (b"IIRO", "an Olympus raw photograph"),
    (b"IIRS", "an Olympus raw photograph"),
    (b"IIU\0", "a Panasonic raw photograph"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop document"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance image"),
    (b"P4\n", "a Netpbm image"),
    (b"P5\n", "a Netpbm image"),
    (b"P6\n", "a Netpbm image"),
    (b"\0\0\x01\0", "an icon"),
    (b"<svg", "an SVG drawing"),
)  # fmt: skip
_FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"....ftyp", "a video"),
    (b"\0\0\x01\xba", "a video"),
    (b"\0\0\x01\xb3", "a video"),
    (b"PK\x03\x04", "a zip archive"),
    (b"<?xml", "an XML or SVG document"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
)


def plugin_of(content: bytes) -> type[ImageFile.ImageFile] | None:
    """Return what opens a content, judged by its first bytes."""
    if content[4:8] == b"ftyp":
        return _by_brand(content)
    return next((cls for magic, cls in PLUGINS if _matches(content, magic)), None)


def recognised(content: bytes) -> bool:
    """Tell whether the first bytes are those of a format that is read."""
    return plugin_of(content) is not None


def format_of(content: bytes) -> str:
    """Return the format by the first bytes, as `ImageInfo` names it; "" where there is none."""
    plugin = plugin_of(content)
    return (plugin.format or "") if plugin else ""


def _by_brand(content: bytes) -> type[ImageFile.ImageFile] | None:
    end = min(int.from_bytes(content[:4]), 16 + 4 * MOST_BRANDS)
    first, others = content[8:12], {content[at : at + 4] for at in range(16, end, 4)}
    meant = others if first in _GENERAL else {first}
    if meant & _AV1:
        return Avif
    return Heif if meant & _HEVC and reads_heic() else None


@cache
def reads_heic() -> bool:
    """Tell whether the extra is installed; it is not imported for that."""
    return find_spec("pillow_heif") is not None


def _matches(content: bytes, magic: bytes) -> bool:
    """Compare the beginning; dots stand for any byte."""
    head = content[: len(magic)]
    return len(head) == len(magic) and all(
        want in (byte, ord(".")) for byte, want in zip(head, magic, strict=True)
    )


def unread_image(content: bytes) -> str | None:
    """Say of an image, by its first bytes, what it is where its format is not read."""
    name = None if recognised(content) else _named(content, _UNREAD_IMAGES)
    return _not_read(name) if name else None


def refusal(content: bytes) -> str:
    """Say of a content that is not read what it is, where that can be told."""
    if not content:
        return "The file is empty."
    name = _named(content, _UNREAD_IMAGES + _FOREIGN)
    if name:
        return _not_read(name)
    return "The content is not one of the image formats that are read."


def _not_read(name: str) -> str:
    if name in _BY_EXTRA and not reads_heic():
        return f"This is {name}, which is read where the extra {HEIC_EXTRA} is installed."
    return f"This is {name}, which is not read."


def _named(content: bytes, table: Iterable[tuple[bytes, str]]) -> str | None:
    start = content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((name for magic, name in table if _matches(start, magic.lower())), None)
