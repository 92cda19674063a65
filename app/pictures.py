"""Pictures for a browser; Pillow loads with the first one, not with the api."""

import threading
from io import BytesIO

QUALITY = 85
# An image of the largest allowed size takes some 150 MB while it is decoded.
_DECODERS = threading.BoundedSemaphore(4)


def content_type(data: bytes) -> str:
    """Return the media type of an image by its content."""
    from core.images import probe  # noqa: PLC0415 - keeps Pillow out of the api's start.

    return f"image/{probe(data).format.lower()}"


def thumbnail(data: bytes, size: int, max_pixels: int) -> bytes:
    """Return a JPEG whose longest side is at most `size` pixels, without any metadata."""
    from core.images import ImageLimits, decode  # noqa: PLC0415 - as above.

    with _DECODERS:
        image = decode(data, ImageLimits(max_pixels=max_pixels), shrink_to=size)
        image.thumbnail((size, size))
        file = BytesIO()
        image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
