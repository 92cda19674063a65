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


@dataclass(frozen=True, slots=True)
class Span:
    """The part of one axis that becomes the crop: `start` to `end` in pixels of the image.

    The filter reads whole pixels from `first` up to `last`, one more to each side than it needs.
    """

    first: int
    last: int
    start: float
    end: float

    @classmethod
    def of(cls, length: int, short: int, resize: int, crop: int, support: int) -> "Span":
        """Find it for an axis of an image whose shorter axis, of `short` pixels, gets `resize`.

        Sizes and offsets are rounded as torchvision rounds them.
        """
        scaled = resize * length // short
        offset = round((scaled - crop) / 2)
        start, end = offset * length / scaled, (offset + crop) * length / scaled
        reach = support * max(1.0, (end - start) / crop)
        first, last = math.floor(start - reach) - 1, math.ceil(end + reach) + 1
        return cls(max(0, first), min(length, last), start, end)


def square(image: Image.Image, resize: int, crop: int, interpolation: str) -> Image.Image:
    """Return the centred square of `crop` pixels of an RGB image whose short side gets `resize`.

    Resize and crop are one operation on the grid of the resized image: pixels outside the crop are
    never computed.
    """
    short, support = min(image.size), SUPPORT[interpolation]
    across, down = (Span.of(length, short, resize, crop, support) for length in image.size)
    window = image.crop((across.first, down.first, across.last, down.last))
    left, right = across.start - across.first, across.end - across.first
    top, bottom = down.start - down.first, down.end - down.first
    kind = FILTERS[interpolation]
    rows = window.resize((crop, window.height), kind, box=(left, 0, right, window.height))
    return rows.resize((crop, crop), kind, box=(0, top, crop, bottom))


def seen(size: tuple[int, int], resize: int, crop: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of that square, as shares of the image's sides."""
    across, down = (Span.of(length, min(size), resize, crop, 0) for length in size)
    width, height = size
    return across.start / width, down.start / height, across.end / width, down.end / height


def square_in_any_order(
    image: Image.Image, resize: int, crop: int, interpolation: str
) -> Image.Image:
    """Return the same as revision 1 did, in the order of passes that Pillow chooses.

    Models that were evaluated so keep their pixels. Where Pillow takes columns first, about 1 % of
    a photograph's samples are another level than those of `square`.
    """
    short = min(image.size)
    across, down = (Span.of(length, short, resize, crop, 0) for length in image.size)
    box = (across.start, down.start, across.end, down.end)
    return image.resize((crop, crop), FILTERS[interpolation], box=box)
