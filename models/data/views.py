"""Views of images: a random crop, or the square in the middle, turned, zoomed and shifted.

What is drawn becomes whole pixels or a matrix on the CPU; pixels are made on the device of the
images, one image after the other, as each has a size of its own.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.compute.transfer import sent
from models.inference.preprocess import Preprocess

Draws = NDArray[np.float32]

# A crop is enlarged at most so many times as much as evaluation enlarges the image: a smaller part
# would be a blur, unlike anything that is judged (`bench/views.py`). Of photographs above 300 px
# only `strong` asks for that.
MOST_ENLARGED = 1.5


class Box(NamedTuple):
    """A part of an image in its pixels, and whether it is seen in a mirror."""

    left: int
    top: int
    width: int
    height: int
    mirrored: bool


def boxes(
    draws: Draws,
    images: list[Tensor],
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
    preprocess: Preprocess,
) -> list[Box]:
    """Choose a part of each image (3, height, width), its shape within `aspect`.

    `area` is the range of its share of the image. What does not fit becomes smaller and keeps its
    shape, where other libraries stretch it or take the middle.
    """
    height, width = np.array([image.shape[1:] for image in images], np.float64).T
    pixels = width * height
    enlarged = np.maximum(1, preprocess.resize / np.minimum(width, height))
    least = (preprocess.crop / (MOST_ENLARGED * enlarged)) ** 2 / pixels
    low = np.clip(least, *area)
    shares = low + (area[1] - low) * draws[:, 1]
    shapes = np.exp(np.log(aspect[0]) + np.log(aspect[1] / aspect[0]) * draws[:, 2])
    wide, high = np.sqrt(shares * pixels * shapes), np.sqrt(shares * pixels / shapes)
    fitting = np.minimum(1, np.minimum(width / wide, height / high))
    wide, high = (np.maximum(1, np.rint(side * fitting)) for side in (wide, high))
    left = np.floor(draws[:, 3] * (width - wide + 1))
    top = np.floor(draws[:, 4] * (height - high + 1))
    numbers = np.stack([left, top, wide, high], 1).astype(int).tolist()
    mirrored = (draws[:, 0] < 0.5).tolist()  # noqa: PLR2004 - half of them.
    return [Box._make([*places, there]) for places, there in zip(numbers, mirrored, strict=True)]


def crops(
    images: list[Tensor], chosen: list[Box], preprocess: Preprocess, *, mirror: bool
) -> Tensor:
    """Return float views (n, 3, side, side), each resized as evaluation resizes the whole."""
    side = preprocess.crop
    views = images[0].new_empty((len(images), 3, side, side), dtype=torch.float32)
    for number, (image, box) in enumerate(zip(images, chosen, strict=True)):
        part = image[None, :, box.top : box.top + box.height, box.left : box.left + box.width]
        # On the CPU there is a faster way for bytes; it rounds to them, as Pillow does.
        part = part if image.device.type == "cpu" else part.float()
        view = functional.interpolate(
            part, (side, side), mode=preprocess.interpolation, antialias=True
        )
        views[number] = view[0].flip(-1) if mirror and box.mirrored else view[0]
    return views if preprocess.interpolation == "bilinear" else views.clamp_(0, 255)


def moves(
    draws: Draws, images: list[Tensor], side: int, *, shift: float, zoom: float, degrees: float
) -> Tensor:
    """Return float views (n, 3, side, side) of the square in the middle of each image.

    It is turned by up to `degrees`, its side changed by the share `zoom` and its place by `shift`.
    """
    signed = torch.from_numpy(2 * draws - 1)
    angle = signed[:, 1] * math.radians(degrees)
    cos, sin = ((1 + signed[:, 2] * zoom) * turn for turn in (angle.cos(), angle.sin()))
    across, down = (2 * shift * signed[:, 3:5]).unbind(1)
    place = images[0].device.type
    views = []
    columns, rows = torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)
    for image, column, row in zip(images, columns, rows, strict=True):
        height, width = image.shape[1:]
        short = min(height, width)
        theta = torch.stack([column * (short / width), row * (short / height)])
        view = functional.grid_sample(
            image[None].float(),
            grid(sent(theta[None], place), side),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        views.append(view)
    return torch.cat(views)


def grid(theta: Tensor, side: int) -> Tensor:
    """Return the places (n, side, side, 2) to sample, from -1 to 1 over the image.

    `affine_grid` does the same by a product of tiny matrices, which takes longer than the sampling.
    """
    line = (2 * torch.arange(side, device=theta.device) + 1) / side - 1
    across, down, shift = theta[:, None, None].unbind(-1)
    return across * line[:, None] + (down * line[:, None, None] + shift)
