"""Which image formats are read, by their first bytes, and the plugin of Pillow for each."""

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

# Named in the message only, so that a user learns what the file is instead of that it is "broken".
_FOREIGN = (
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"....ftypheic", "an HEIC photograph"),
    (b"....ftypmif1", "an HEIF photograph"),
    (b"....ftypavif", "an AVIF image"),
    (b"....ftyp", "a video"),
    (b"\0\0\x01\xba", "a video"),
    (b"\0\0\x01\xb3", "a video"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 image"),
    (b"PK\x03\x04", "a zip archive"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG document"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
)


def plugin_of(content: bytes) -> type[ImageFile.ImageFile] | None:
    """Return what opens a content, judged by its first bytes."""
    return next((cls for magic, cls in PLUGINS if _matches(content, magic)), None)


def recognised(content: bytes) -> bool:
    """Tell whether the first bytes are those of a format that is read."""
    return plugin_of(content) is not None


def format_of(content: bytes) -> str:
    """Return the format by the first bytes, as `ImageInfo` names it; "" where there is none."""
    plugin = plugin_of(content)
    return (plugin.format or "") if plugin else ""


def _matches(content: bytes, magic: bytes) -> bool:
    """Compare the beginning; dots stand for any byte."""
    head = content[: len(magic)]
    return len(head) == len(magic) and all(
        want in (byte, ord(".")) for byte, want in zip(head, magic, strict=True)
    )


def refusal(content: bytes) -> str:
    """Say of a content that is not read what it is, where that can be told."""
    if not content:
        return "The file is empty."
    start = content[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in _FOREIGN:
        if _matches(start.lower(), magic.lower()):
            return f"This is {name}, which is not read."
    return "The content is not one of the image formats that are read."
