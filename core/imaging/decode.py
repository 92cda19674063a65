"""Open, limit and decode images: the one decoder policy of ingest, trainer and predictor.

Formats are judged by content. Pillow's plugins are called directly, not through `Image.open`: this
keeps its forty other formats (EPS, PSD, FITS, ...) out of reach, and sizes are checked here before
any pixel is allocated, where Pillow would only warn. EXIF is parsed here too, because Pillow's
reader warns about, and sometimes fails on, files whose pixels are perfectly good.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from io import BytesIO
from typing import BinaryIO

import PIL
from PIL import Image, ImageFile, TiffImagePlugin, features

from core.imaging import exif, png_chunks
from core.imaging.colour_profiles import foreign
from core.imaging.confined import ConfinedImage
from core.imaging.findings import FINDINGS
from core.imaging.formats import Jpeg, plugin_of, reads_heic, refusal
from core.imaging.header_limits import check_parts
from core.imaging.tiff_pages import Page, full_page, is_preview
from core.imaging.to_rgb import BYTE_BITS, STATED, Rendered, Rendering, layout, to_rgb
from topwork.errors import ImageTooLarge, ImageUndecodable, TopworkError

# A JPEG is decoded at a half, a quarter or an eighth of its size as long as its short side keeps
# this multiple of the wanted one: 4 to 6 times faster on phone photographs for a mean pixel
# difference of about 0.2 of 255 after the resize.
DRAFT_OVERSAMPLING = 2
# A JPEG of one scan and of more pixels than the limit, up to this many times as many, is decoded at
# half its size: what counts is what has to be held. One of several scans is held whole.
LARGEST_JPEG = 4
JPEG_CHEAPER = 4  # Times, as most of its pixels are never made.

# Each scan of a progressive JPEG costs a pass over the whole picture, however few bytes it has: a
# thousand empty ones in 100 kB keep a core busy for minutes. Real encoders write about ten. The
# predictor serves others meanwhile, so the largest pictures may have fewer scans.
MAX_JPEG_SCANS = 50
MAX_SCANS_OF_LARGEST = 20
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # One that a length follows, or the end.
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

# Raised with every change that moves a pixel: what was decoded before is then decoded again.
REVISION = 2

ImageData = bytes | bytearray | memoryview | BinaryIO


@dataclass(frozen=True)
class ImageLimits:
    """Sizes above which an image is refused before it is decoded, or is decoded smaller."""

    max_pixels: int = 36_000_000
    max_aspect: float = 20.0
    max_side: int = 20_000


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True)
class ImageInfo:
    """What the header says: displayed size, format by content, Pillow mode, keys of `FINDINGS`.

    `frames` is 1, or 2 when there are several: counting them all would let a file name its price.
    `range` is the largest sample as stored and the one that is white, of pictures of more than 8
    bits. It, the miniature and what pixels show are only known to `inspect`.
    """

    width: int
    height: int
    format: str
    mode: str
    frames: int
    findings: tuple[str, ...]
    miniature: bytes = field(default=b"", compare=False)
    range: tuple[int, int] | None = None


class OpenImage:
    """An image whose header was read and checked, and whose pixels can be decoded once.

    Args:
        data: The file.
        limits: Above which it is refused.

    Raises:
        ImageUndecodable: The content is in no format that is read, or its header is broken.
        ImageTooLarge: The size or the aspect ratio is beyond `limits`.
    """

    def __init__(self, data: ImageData, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        with _named_errors():
            self._image, self._facts, self._page = _open(data, limits)

    @cached_property
    def info(self) -> ImageInfo:
        """What the header says, asked before `rgb`; it may be broken where `rgb` does not look."""
        with _named_errors():
            self._turn_to(STATED)
            return _describe(self._image, self._facts, self._page.number)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture as stored, in pixels; asked before `rgb`."""
        with _named_errors():
            self._turn_to(STATED)
            return _upright(self._image, self._facts.orientation)

    @property
    def weight(self) -> int:
        """What decoding costs in time and memory, in pixels: a quarter of those of a JPEG.

        Measured for a network's input: JPEG 12 ns a pixel at 12 megapixels, other formats 50 to
        125.
        """
        width, height = self._page.size
        return width * height // (JPEG_CHEAPER if self._image.format == "JPEG" else 1)

    def rgb(self, shrink_to: int | None = None, rendering: Rendering = STATED) -> Image.Image:
        """Return what `decode` does; errors as there."""
        return self.rendered(shrink_to, rendering).image

    def rendered(self, shrink_to: int | None = None, rendering: Rendering = STATED) -> Rendered:
        """Return the same with what was seen of its samples."""
        with _named_errors():
            self._turn_to(rendering)
            self._draft(shrink_to)
            return _load(self._image, self._facts, rendering)

    def _turn_to(self, rendering: Rendering) -> None:
        """Go to the page that is read, whose sizes have to be within the limits, too."""
        page = self._page.number if rendering.stated else 0
        image = self._image
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tell() != page:
            image.seek(page)
            self._facts = _facts_of_page(image, self._limits)

    def _draft(self, shrink_to: int | None) -> None:
        """Have a JPEG decoded smaller, as far as is asked for or as the limit needs."""
        width, height = self._image.size
        wanted = (width, height)
        if shrink_to is not None:
            wanted = (DRAFT_OVERSAMPLING * shrink_to,) * 2
        if width * height > self._limits.max_pixels:
            wanted = (min(wanted[0], width // 2), min(wanted[1], height // 2))
        if wanted != (width, height):
            self._image.draft(None, wanted)


def probe(data: ImageData, limits: ImageLimits = DEFAULT_LIMITS) -> ImageInfo:
    """Read the header and check the limits; no pixel is decoded.

    Raises:
        ImageUndecodable: The content is in no format that is read, or its header is broken.
        ImageTooLarge: The size or the aspect ratio is beyond `limits`.
    """
    return OpenImage(data, limits).info


def decode(
    data: ImageData,
    limits: ImageLimits = DEFAULT_LIMITS,
    *,
    shrink_to: int | None = None,
    rendering: Rendering = STATED,
) -> Image.Image:
    """Return the first frame: complete, upright, 8-bit sRGB.

    With `shrink_to` a JPEG may come smaller than stored; its short side is then at least
    `DRAFT_OVERSAMPLING * shrink_to` pixels, or half of what is stored. One of more pixels than
    `limits` has, up to `LARGEST_JPEG` times as many, comes at half its size without being asked.

    Raises:
        ImageUndecodable: The content is in no format that is read, is truncated or broken, or its
            samples have no agreed meaning (signed, 32-bit integer, float outside 0..1).
        ImageTooLarge: The size or the aspect ratio is beyond `limits`.
    """
    return OpenImage(data, limits).rgb(shrink_to, rendering)


def revision() -> str:
    """Name everything that decides the pixels of `decode`: this code and the libraries below it."""
    names = ("jpg", "libjpeg_turbo", "webp", "libtiff", "littlecms2", "avif")
    versions = [f"{REVISION} pil {PIL.__version__}", *(f"{n} {features.version(n)}" for n in names)]
    if reads_heic():
        versions.append(f"heif {metadata.version('pillow-heif')}")
    return " ".join(versions)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8]}


class _Guard:
    """Pillow's own guard, which holds for the process, for sizes told only by what opens a file.

    Every size is checked in `_check_size`, but some plugins make pictures while they open a file:
    the GIF one fills what a frame will leave behind. The guard goes before them; it warns above its
    limit and fails above twice of it, and to us both is one refusal. Other threads may be decoding
    under a higher limit, so it never falls.
    """

    FILTER = ("error", None, Image.DecompressionBombWarning, None, 0)

    def __init__(self) -> None:
        self.pixels = DEFAULT_LIMITS.max_pixels

    def let_through(self, pixels: int) -> None:
        """Have it refuse what is larger than this, and than all that was let through before."""
        self.pixels = Image.MAX_IMAGE_PIXELS = max(self.pixels, pixels)
        if self.FILTER not in warnings.filters:
            warnings.simplefilter("error", Image.DecompressionBombWarning)


_guard = _Guard()


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn the dozen unrelated exception types of a broken file into one named error."""
    try:
        yield
    except TopworkError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"The image has more than {_guard.pixels} pixels.",
            hint="Send a smaller version of the image.",
        ) from error
    except MemoryError as error:
        raise ImageTooLarge("The image does not fit into memory.") from error
    except Exception as error:
        detail = str(error) or type(error).__name__
        raise ImageUndecodable(f"The image is broken: {detail[:200]}.") from error


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a header says beside what Pillow reads of it: EXIF orientation, None where broken."""

    orientation: int | None = 1
    depth: int = BYTE_BITS
    significant: int = 0


def _open(data: ImageData, limits: ImageLimits) -> tuple[ImageFile.ImageFile, _Facts, Page]:
    """Return the unloaded image, what else its header says and the page that is the picture."""
    content = data.read() if hasattr(data, "read") else bytes(data)
    plugin = plugin_of(content)
    if plugin is None:
        raise ImageUndecodable(refusal(content))
    check_parts(content)
    scans = _scans(content) if plugin is Jpeg else 1
    if scans > MAX_JPEG_SCANS:
        raise ImageUndecodable(f"The JPEG file has more than {MAX_JPEG_SCANS} scans.")
    _guard.let_through(limits.max_pixels)
    image = plugin(BytesIO(content))
    row_by_row = plugin is Jpeg and scans == 1 and not image.info.get("progressive")
    most = limits.max_pixels * (LARGEST_JPEG if row_by_row else 1)
    _check_size(*image.size, replace(limits, max_pixels=most))
    if scans * image.width * image.height > MAX_SCANS_OF_LARGEST * limits.max_pixels:
        raise ImageTooLarge(
            f"The JPEG file has {scans} scans of {image.width} x {image.height} pixels.",
            hint="Save it with the usual ten scans, or as a baseline JPEG.",
        )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image, _facts_of_page(image, limits), full_page(content, image.size)
    page = Page(0, image.size)
    if isinstance(image, ConfinedImage):
        return image, _Facts(exif.valid(image.orientation)), page
    tags, facts = image.info.get("exif"), _Facts()
    if image.format == "PNG":
        chunks = png_chunks.checked(content)
        tags = chunks.exif
        facts = _Facts(depth=max(BYTE_BITS, chunks.depth), significant=chunks.significant)
    facts = replace(facts, orientation=exif.orientation(tags)) if tags else facts
    return image, facts, page


def _facts_of_page(image: TiffImagePlugin.TiffImageFile, limits: ImageLimits) -> _Facts:
    _check_size(*image.size, limits)
    tile = (image.tag_v2.get(322, 1), image.tag_v2.get(323, 1))
    _check_size(*tile, limits, aspect=False)
    return _Facts(exif.valid(image.tag_v2.get(274, 1)))


def _load(image: ImageFile.ImageFile, facts: _Facts, rendering: Rendering) -> Rendered:
    """Decode an opened image: upright, 8-bit RGB."""
    samples = layout(image, facts.depth, facts.significant)
    image.load()
    seen = to_rgb(image, samples, rendering)
    turn = _turn_left_to_do(image, facts.orientation)
    return seen if turn is None else seen._replace(image=seen.image.transpose(turn))


def _describe(image: ImageFile.ImageFile, facts: _Facts, page: int) -> ImageInfo:
    width, height = _upright(image, facts.orientation)
    several = bool(getattr(image, "is_animated", False))
    tiff = image if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    present = {
        "exif_rotated": facts.orientation not in {None, 1},
        "exif_corrupt": facts.orientation is None,
        "alpha_flattened": image.has_transparency_data,
        "cmyk_converted": image.mode == "CMYK",
        "profile_converted": foreign(image) is not None,
        "sixteen_bit": layout(image, facts.depth).depth > BYTE_BITS,
        "several_frames": several,
        "preview_skipped": page > 0,
        "preview_only": tiff is not None and is_preview(tiff),
    }
    findings = tuple(code for code in FINDINGS if present.get(code))
    name = image.format or ""
    return ImageInfo(width, height, name, image.mode, 1 + several, findings)


def _upright(image: ImageFile.ImageFile, orientation: int | None) -> tuple[int, int]:
    width, height = image.size
    sideways = _turn_left_to_do(image, orientation) in _SIDEWAYS
    return (height, width) if sideways else (width, height)


def _turn_left_to_do(image: ImageFile.ImageFile, orientation: int | None) -> Image.Transpose | None:
    """Pillow turns a TIFF by itself while loading, its announced size included."""
    return None if image.format == "TIFF" else _TURNS.get(orientation or 1)


def _check_size(width: int, height: int, limits: ImageLimits, *, aspect: bool = True) -> None:
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"The image is {width} x {height} pixels; the limit is {limits.max_pixels} pixels"
            f" and {limits.max_side} on a side.",
            hint="Send a smaller version of the image, or raise TOPWORK_MAX_IMAGE_PIXELS.",
        )
    if aspect and max(width, height) > limits.max_aspect * min(width, height):
        raise ImageTooLarge(
            f"The image is {width} x {height} pixels, longer than"
            f" {limits.max_aspect:g} times its width.",
            hint="Crop the image to the part that matters.",
        )


def _scans(content: bytes) -> int:
    """Count the scans of a JPEG up to its end, where a phone may have appended a film."""
    scans, at = 0, 2
    while scans <= MAX_JPEG_SCANS and (marker := _MARKER.search(content, at)):
        kind = marker[0][1]
        if kind == _END_OF_IMAGE:
            break
        scans += kind == _START_OF_SCAN
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
    return scans
