"""Resize and crop in one arithmetic, which does not depend on the release of Pillow.

Pillow filters rows and columns in two passes and rounds to 8 bits between them, so their order
shows in the samples. Which one it takes first depends on its release and on the image. Here each
pass is a call of its own, rows first. `models.export.pixels` has the same arithmetic as a graph.
"""

import math
from dataclasses import dataclass

from PIL import Image

# Pillow's filters always take the reduction into account, which others call antialiasing.
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SUPPORT = {"bilinear": 1, "bicubic": 2}  # Pixels that a filter reaches to each side, not reduced.


CROP, PAD, SQUASH = "crop", "pad", "squash"
FITS = (CROP, PAD, SQUASH)
"""How an image becomes a square: its middle, the whole with a margin, the whole out of shape."""


@dataclass(frozen=True, slots=True)
class Span:
    """The part of one axis that is seen: `start` to `end` in pixels of the image.

    It becomes `size` pixels of the square. The filter reads whole pixels from `first` up to `last`,
    one more to each side than it needs.
    """

    first: int
    last: int
    start: float
    end: float
    size: int

    @classmethod
    def of(cls, length: int, unit: int, resize: int, crop: int, support: int) -> "Span":
        """Find it for an axis of an image of which `unit` pixels get `resize`.

        Sizes and offsets are rounded as torchvision rounds them.
        """
        scaled = max(1, resize * length // unit)
        size = min(scaled, crop)
        offset = round((scaled - size) / 2)
        start, end = offset * length / scaled, (offset + size) * length / scaled
        reach = support * max(1.0, (end - start) / size)
        first, last = math.floor(start - reach) - 1, math.ceil(end + reach) + 1
        return cls(max(0, first), min(length, last), start, end, size)


def spans(size: tuple[int, int], resize: int, crop: int, support: int, fit: str) -> list[Span]:
    """Return those of width and height; only `crop` has a margin that `resize` leaves outside."""
    if fit == CROP:
        return [Span.of(length, min(size), resize, crop, support) for length in size]
    units = [max(size)] * 2 if fit == PAD else size
    return [Span.of(*axis, crop, crop, support) for axis in zip(size, units, strict=True)]


def square(
    image: Image.Image,
    resize: int,
    crop: int,
    interpolation: str,
    fit: str = CROP,
    margin: tuple[int, int, int] = (0, 0, 0),
) -> Image.Image:
    """Return the square of `crop` pixels that is seen of an RGB image, as `fit` says.

    Of `crop` it is the middle of the image whose short side gets `resize`, of `pad` the whole, its
    long side `crop`, in the middle of the colour `margin`. Resize and crop are one operation on the
    grid of the resized image: pixels outside the crop are never computed.
    """
    across, down = spans(image.size, resize, crop, SUPPORT[interpolation], fit)
    window = image.crop((across.first, down.first, across.last, down.last))
    left, right = across.start - across.first, across.end - across.first
    top, bottom = down.start - down.first, down.end - down.first
    kind = FILTERS[interpolation]
    rows = window.resize((across.size, window.height), kind, box=(left, 0, right, window.height))
    seen = rows.resize((across.size, down.size), kind, box=(0, top, across.size, bottom))
    if seen.size == (crop, crop):
        return seen
    whole = Image.new("RGB", (crop, crop), margin)
    whole.paste(seen, ((crop - seen.width) // 2, (crop - seen.height) // 2))
    return whole


def seen(
    size: tuple[int, int], resize: int, crop: int, fit: str
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of that square, as shares of the image's sides.

    They lie in 0..1 but for `pad`, whose square reaches beyond the short side of an image.
    """
    edges = []
    for length, span in zip(size, spans(size, resize, crop, 0, fit), strict=True):
        pixel = (span.end - span.start) / span.size
        start = span.start - (crop - span.size) // 2 * pixel
        edges.append((start / length, (start + crop * pixel) / length))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def square_in_any_order(
    image: Image.Image, resize: int, crop: int, interpolation: str
) -> Image.Image:
    """Return the same as revision 1 did, in the order of passes that Pillow chooses.

    Models that were evaluated so keep their pixels. Where Pillow takes columns first, about 1 % of
    a photograph's samples are another level than those of `square`.
    """
    across, down = spans(image.size, resize, crop, 0, CROP)
    box = (across.start, down.start, across.end, down.end)
    return image.resize((crop, crop), FILTERS[interpolation], box=box)
