"""Look at a whole image: what its header says, and what its pixels show."""

from dataclasses import replace

from core.imaging import statistics
from core.imaging.decode import DEFAULT_LIMITS, ImageData, ImageInfo, ImageLimits, OpenImage
from core.imaging.miniature import miniature


def inspect(data: ImageData, limits: ImageLimits = DEFAULT_LIMITS) -> ImageInfo:
    """Answer as `probe` does, after the whole image was decoded as `decode` does.

    Only here the answer has the picture's miniature, and findings about its pixels.
    """
    image = OpenImage(data, limits)
    info = image.info
    seen = image.rendered()
    small = miniature(seen.image)
    extent = None if seen.largest is None else (seen.largest, seen.white)
    present = {
        "shown_over_black": seen.over_black,
        "blank_image": statistics.is_blank(seen.image, small),
        "dark_range": extent is not None and statistics.is_dark(*extent),
    }
    found = tuple(code for code, it in present.items() if it)
    return replace(info, findings=info.findings + found, miniature=small, range=extent)
