"""Thumbnails for a browser; Pillow loads with the first one, not with the api."""

from io import BytesIO

import anyio
import anyio.to_thread

from app.api.manifests import Manifests, image_bytes
from core.store.object_store import Storage
from core.store.tables import DatasetVersion

QUALITY = 85
AT_ONCE = 4
"""An image of the largest allowed size takes some 150 MB while it is decoded."""


class Thumbnails:
    """Renders few thumbnails at once; what waits for its turn holds no thread and no session.

    Args:
        storage: Where the images are.
        manifests: Where in it.
        max_pixels: Largest image that is decoded.
    """

    def __init__(self, storage: Storage, manifests: Manifests, max_pixels: int) -> None:
        self._storage, self._manifests, self._max_pixels = storage, manifests, max_pixels
        self.turns = anyio.CapacityLimiter(AT_ONCE)

    async def of(self, version: DatasetVersion, sha256: str, size: int) -> bytes:
        """Return one image of a version as a JPEG of at most `size` pixels each way.

        Raises:
            NotFound: The version has no such image.
        """
        return await anyio.to_thread.run_sync(
            self._render, version, sha256, size, limiter=self.turns
        )

    def _render(self, version: DatasetVersion, sha256: str, size: int) -> bytes:
        line = self._manifests.of(version).line(sha256)
        return thumbnail(image_bytes(self._storage, line), size, self._max_pixels)


def content_type(start: bytes) -> str:
    """Return the media type of an image by its first bytes."""
    from core.imaging.formats import format_of  # noqa: PLC0415 - keeps Pillow out of the api's start.

    return f"image/{format_of(start).lower()}"


def thumbnail(data: bytes, size: int, max_pixels: int) -> bytes:
    """Return a JPEG whose longest side is at most `size` pixels, without any metadata."""
    from core.imaging.decode import ImageLimits, decode  # noqa: PLC0415 - as above.

    image = decode(data, ImageLimits(max_pixels=max_pixels), shrink_to=size)
    image.thumbnail((size, size))
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
