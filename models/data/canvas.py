"""Canvases: decoded training images as they are kept, from which each epoch cuts other views.

A canvas has the shape of its image, and at least the pixels that the smallest view needs, unless
the image has fewer: then it is the image itself, and views are enlarged once and not twice.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.inference.resample import CROP, PAD, SQUASH
from models.planning.views import REACH

SIZE_BYTES = 4  # Width and height, as uint16, behind the pixels of a row.
# The one that keeps most of what is fine: a view filters once more.
FILTER = Image.Resampling.LANCZOS


@dataclass(frozen=True, slots=True)
class Canvas:
    """How large images are kept.

    Where views are `cropped` at random, `side` is that of a square with as many pixels; else it is
    the short side, and what the square in the middle never reaches is left out. For the `fit` `pad`
    it is the long side, for `squash` both.
    """

    side: int
    cropped: bool
    fit: str = CROP

    @property
    def row_bytes(self) -> int:
        """Bytes that the largest one takes, with its size."""
        whole = self.cropped or self.fit != CROP
        pixels = self.side**2 if whole else math.ceil(REACH * self.side**2)
        return 3 * pixels + SIZE_BYTES

    def facts(self) -> dict[str, Any]:
        """Return what decides the bytes of a row, besides the image and its decoder."""
        return {**asdict(self), "filter": FILTER.name.lower()}

    def row(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the canvas of an RGB image: samples row by row, R, G, B each, and its size."""
        width, height = self._window(*image.size)
        left, top = (image.width - width) / 2, (image.height - height) / 2
        size = self._size(width, height)
        pixels = image.resize(size, FILTER, box=(left, top, left + width, top + height))
        row = np.zeros(self.row_bytes, np.uint8)
        row[: 3 * size[0] * size[1]] = np.asarray(pixels).reshape(-1)
        row[-SIZE_BYTES:] = np.array(size, "<u2").view(np.uint8)
        return row

    def _window(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of what can be seen in the middle of an image."""
        if self.cropped or self.fit != CROP:
            return width, height
        most = math.ceil(REACH * min(width, height))
        return min(width, most), min(height, most)

    def _size(self, width: int, height: int) -> tuple[int, int]:
        if self.fit == SQUASH:
            return min(width, self.side), min(height, self.side)
        unit = math.sqrt(width * height) if self.cropped else min(width, height)
        unit = max(width, height) if self.fit == PAD else unit
        scale = min(1.0, self.side / unit)
        # What is a whole number but for rounding is one.
        across, down = (max(1, int(length * scale + 1e-6)) for length in (width, height))
        pixels = (self.row_bytes - SIZE_BYTES) // 3
        return min(across, pixels // down or 1), min(down, pixels // across or 1)


def pictures(rows: NDArray[np.uint8], batch: Tensor) -> list[Tensor]:
    """Return the images (3, height, width) of rows, uint8 and on the device of `batch`.

    `batch` are the same rows, which may have been sent elsewhere: sizes are read here.
    """
    sizes = rows[:, -SIZE_BYTES:].copy().view("<u2").tolist()
    return [
        row[: 3 * width * height].view(height, width, 3).permute(2, 0, 1)
        for row, (width, height) in zip(torch.unbind(batch), sizes, strict=True)
    ]
