"""A heat map as a picture: transparent, to lie over the crop, or upon the image itself.

Red speaks for the class and blue against it. What is far from nothing is opaque, measured by the
cell that is farthest; so colours of two images do not compare, and their numbers do.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.inference.heatmap import Cells

FOR, AGAINST = (214, 40, 40), (33, 102, 172)  # Told apart with any kind of colour vision.
DENSEST = 0.75  # Of 1: the image is seen through every cell.
PIXELS_A_CELL = 8  # Whoever shows it enlarges it, and browsers smooth it.
LONGEST = 512  # Pixels of an overlay's longer side.
Box = tuple[float, float, float, float]


def layer(cells: Cells, size: tuple[int, int]) -> Image.Image:
    """Return an RGBA picture of the cells, between whose middles colours change evenly."""
    farthest = float(np.abs(cells).max()) or 1.0
    shares = Image.fromarray((cells / farthest).astype(np.float32))
    smooth = np.asarray(shares.resize(size, Image.Resampling.BILINEAR))
    colours: NDArray[np.uint8] = np.empty((*smooth.shape, 4), np.uint8)
    colours[..., :3] = np.where(smooth[..., None] > 0, FOR, AGAINST)
    colours[..., 3] = np.abs(smooth) * (255 * DENSEST)
    return Image.fromarray(colours)


def transparent(cells: Cells) -> bytes:
    """Return a small PNG to lay over the part of the image that the network saw."""
    rows, columns = cells.shape
    return _png(layer(cells, (columns * PIXELS_A_CELL, rows * PIXELS_A_CELL)))


def shrink(image: Image.Image) -> None:
    """Bring an image to the size of an overlay, in place; a smaller one stays."""
    image.thumbnail((LONGEST, LONGEST))


def overlay(image: Image.Image, box: Box, cells: Cells) -> bytes:
    """Return a PNG of an upright RGB image with the map upon it, its longer side `LONGEST` at most.

    Args:
        image: Which is changed.
        box: Left, top, right and bottom of what the network saw, as shares of its sides.
        cells: The map.
    """
    shrink(image)
    width, height = image.size
    left, top = round(box[0] * width), round(box[1] * height)
    right, bottom = round(box[2] * width), round(box[3] * height)
    upon = layer(cells, (max(1, right - left), max(1, bottom - top)))
    image.paste(upon, (left, top), upon)
    return _png(image)


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
