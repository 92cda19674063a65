"""A picture as 32 x 32 pixels, from which its perceptual hash is made elsewhere.

A decoder process makes it and so needs no numpy, which would take longer to load than a thousand
miniatures take.
"""

from PIL import Image

SIDE = 32  # Pixels, to which a picture is brought whatever its shape.
LEAST_SIDE = 16  # Pixels; a smaller picture has fewer frequencies than are compared.


def miniature(image: Image.Image) -> bytes:
    """Return the `SIDE * SIDE * 3` bytes of an RGB picture made small; none if it is too small."""
    if min(image.size) < LEAST_SIDE:
        return b""
    factor = max(1, min(image.size) // (2 * SIDE))
    small = image.reduce(factor) if factor > 1 else image
    return small.resize((SIDE, SIDE), Image.Resampling.BILINEAR).tobytes()
