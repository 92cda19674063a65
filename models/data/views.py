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
from models.inference.resample import CROP, PAD, SQUASH

Draws = NDArray[np.float32]
Lengths = NDArray[np.float64]

# A crop is enlarged at most so many times as much as evaluation enlarges the image: a smaller part
# would be a blur, unlike anything that is judged (`bench/views.py`). Of photographs above 300 px
# only `strong` asks for that.
MOST_ENLARGED = 1.45


class Box(NamedTuple):
    """A part of an image in its pixels, and whether it is seen in a mirror.

    It reaches beyond the image where that is padded.
    """

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

    `area` is the range of its share of the image, or of the square around it where it is padded.
    What does not fit becomes smaller and keeps its shape, where other libraries stretch it or take
    the middle. A part that is longer than the image has all of it, somewhere.
    """
    height, width = np.array([image.shape[1:] for image in images], np.float64).T
    across, down = _frames(width, height, preprocess.fit, whole=True)
    pixels, seen = across * down, preprocess.crop
    judged = preprocess.resize / np.minimum(width, height)
    if preprocess.fit != CROP:
        judged = seen / np.sqrt(pixels)
    least = (seen / (MOST_ENLARGED * np.maximum(1, judged))) ** 2 / pixels
    low = np.clip(least, *area)
    shares = low + (area[1] - low) * draws[:, 1]
    shapes = np.exp(np.log(aspect[0]) + np.log(aspect[1] / aspect[0]) * draws[:, 2])
    if preprocess.fit == SQUASH:
        shapes *= across / down
    wide, high = np.sqrt(shares * pixels * shapes), np.sqrt(shares * pixels / shapes)
    fitting = np.minimum(1, np.minimum(across / wide, down / high))
    wide, high = (np.maximum(1, np.rint(side * fitting)) for side in (wide, high))
    left, top = _places(draws[:, 3], width - wide), _places(draws[:, 4], height - high)
    numbers = np.stack([left, top, wide, high], 1).astype(int).tolist()
    mirrored = (draws[:, 0] < 0.5).tolist()  # noqa: PLR2004 - half of them.
    return [Box._make([*places, there]) for places, there in zip(numbers, mirrored, strict=True)]


def _frames(width: Lengths, height: Lengths, fit: str, *, whole: bool) -> tuple[Lengths, Lengths]:
    """Return the sides of what views are parts of: images, squares in them or around them."""
    if fit == PAD:
        return (np.maximum(width, height),) * 2
    if fit == SQUASH or whole:
        return width, height
    return (np.minimum(width, height),) * 2


def _places(draws: Draws, free: Lengths) -> Lengths:
    """Return whole numbers from 0 to `free`, or from `free` to 0 where it is negative."""
    places: Lengths = np.minimum(0, free) + np.floor(draws * (np.abs(free) + 1))
    return places


def crops(
    images: list[Tensor], chosen: list[Box], preprocess: Preprocess, *, mirror: bool
) -> Tensor:
    """Return float views (n, 3, side, side), each resized as evaluation resizes the whole."""
    side = preprocess.crop
    views = images[0].new_empty((len(images), 3, side, side), dtype=torch.float32)
    if preprocess.fit == PAD:
        margin = torch.tensor(preprocess.margin, dtype=torch.float32).view(1, 3, 1, 1)
        views[:] = sent(margin, views.device.type)
    for number, (image, box) in enumerate(zip(images, chosen, strict=True)):
        (left, right), (first, last) = _shared(box.left, box.width, image.shape[2], side)
        (top, bottom), (upper, lower) = _shared(box.top, box.height, image.shape[1], side)
        part = image[None, :, top:bottom, left:right]
        # On the CPU there is a faster way for bytes; it rounds to them, as Pillow does.
        part = part if image.device.type == "cpu" else part.float()
        size = (lower - upper, last - first)
        view = functional.interpolate(part, size, mode=preprocess.interpolation, antialias=True)[0]
        if mirror and box.mirrored:
            view, first, last = view.flip(-1), side - last, side - first
        views[number, :, upper:lower, first:last] = view
    return views if preprocess.interpolation == "bilinear" else views.clamp_(0, 255)


def _shared(start: int, length: int, whole: int, side: int) -> tuple[tuple[int, int], ...]:
    """Return which pixels of an axis of the image a box has, and of the view they become."""
    first, last = max(0, start), min(whole, start + length)
    begin = min(side - 1, round((first - start) * side / length))
    end = max(begin + 1, round((last - start) * side / length))
    return (first, last), (begin, end)


def moves(
    draws: Draws,
    images: list[Tensor],
    preprocess: Preprocess,
    *,
    shift: float,
    zoom: float,
    degrees: float,
) -> Tensor:
    """Return float views (n, 3, side, side) of what evaluation sees of each image.

    It is turned by up to `degrees`, its side changed by the share `zoom` and its place by `shift`.
    """
    signed = torch.from_numpy(2 * draws - 1)
    angle = signed[:, 1] * math.radians(degrees)
    cos, sin = ((1 + signed[:, 2] * zoom) * turn for turn in (angle.cos(), angle.sin()))
    across, down = (2 * shift * signed[:, 3:5]).unbind(1)
    columns, rows = torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)
    height, width = np.array([image.shape[1:] for image in images], np.float64).T
    wide, high = _frames(width, height, preprocess.fit, whole=False)
    scales = torch.from_numpy(np.stack([wide / width, high / height], 1).astype(np.float32))
    theta = torch.stack([columns, rows], 1) * scales[:, :, None]
    place, padded = images[0].device.type, preprocess.fit == PAD
    around = torch.tensor(preprocess.margin if padded else (0, 0, 0), dtype=torch.float32)
    around = sent(around.view(1, 3, 1, 1), place)
    places = grid(sent(theta, place), preprocess.crop)
    views = [
        functional.grid_sample(
            image[None] - around,  # Beyond the image is nothing, or more of its edge.
            places[number : number + 1],
            mode="bilinear",
            padding_mode="zeros" if padded else "border",
            align_corners=False,
        )
        for number, image in enumerate(images)
    ]
    return torch.cat(views).add_(around)


def grid(theta: Tensor, side: int) -> Tensor:
    """Return the places (n, side, side, 2) to sample, from -1 to 1 over the image.

    `affine_grid` does the same by a product of tiny matrices, which takes longer than the sampling.
    """
    line = (2 * torch.arange(side, device=theta.device) + 1) / side - 1
    across, down, shift = theta[:, None, None].unbind(-1)
    return across * line[:, None] + (down * line[:, None, None] + shift)
