"""What the samples of a decoded picture are like: whether there is anything to see.

Whole pictures are looked at only where their miniature leaves it open, as that takes a while beside
decoding them.
"""

from typing import cast

from PIL import Image

BLANK = 3  # Of 255: what separates the samples of a picture in which nothing can be seen.
# Times, by which white exceeds the largest sample where much of the range is unused; two bits less
# than are stored are usual of sensors, and four of X-rays.
DARK = 4
COLOURS = 3


def spread(image: Image.Image) -> int:
    """Return by how much samples of one colour differ at most, 0 to 255, of an RGB picture."""
    return max(high - low for low, high in extrema(image))


def is_blank(image: Image.Image, miniature: bytes) -> bool:
    """Tell whether an RGB picture is of one colour, as far as can be seen."""
    # Means lie between the least and the largest of what they are made of.
    return _spread_of(miniature) <= BLANK and spread(image) <= BLANK


def is_dark(largest: int, white: int) -> bool:
    """Tell whether most of the range of samples is left unused."""
    return largest * DARK <= white


def brightest(image: Image.Image) -> int:
    """Return the largest sample of an RGB picture."""
    return max(high for _, high in extrema(image))


def extrema(image: Image.Image) -> list[tuple[int, int]]:
    """Return the least and the largest sample of each colour."""
    found = [image.getchannel(band).getextrema() for band in range(COLOURS)]
    return cast("list[tuple[int, int]]", found)  # Of 8 bits, one band each.


def _spread_of(miniature: bytes) -> int:
    if not miniature:
        return 0
    channels = [miniature[at::COLOURS] for at in range(COLOURS)]
    return max(max(it) - min(it) for it in channels)
