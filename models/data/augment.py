"""Random changes of a batch of training images, each a pure function of (seed, epoch, sample).

Images lie in the cache as squares of one size with their original aspect ratio noted beside them,
so that one affine sampling per batch crops, scales, shifts and mirrors all of them at once.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.data.randomness import AUGMENT, uniforms


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image, as data.

    `area` and `aspect` are the ranges of the random crop (torchvision's RandomResizedCrop);
    `shift`, `zoom` and `degrees` move the whole image when there is no crop; `jitter` changes
    brightness, contrast and saturation by up to this factor; `erase` is a probability.
    """

    area: tuple[float, float] | None = None
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    shift: float = 0.0
    zoom: float = 0.0
    degrees: float = 0.0
    mirror: bool = False
    jitter: float = 0.0
    erase: float = 0.0


SMALL_SIDE = 64  # Inputs up to this side are icons, digits and the like: no crop to a part.


def named(name: str, side: int) -> Augmentation | None:
    """Return the augmentation of a name for inputs of `side` pixels; None for `none`."""
    if name == "none":
        return None
    strong = name == "strong"
    jitter, erase = (0.3, 0.25) if strong else (0.0, 0.0)
    if name == "light":
        return Augmentation(shift=0.09, zoom=0.1, degrees=8.0)
    if side <= SMALL_SIDE:
        return Augmentation(shift=0.125, mirror=True, jitter=jitter, erase=erase)
    area = (0.08, 1.0) if strong else (0.35, 1.0)
    return Augmentation(area=area, mirror=True, jitter=jitter, erase=erase)


def augment(
    images: Tensor,
    aspects: Tensor,
    samples: NDArray[np.int64],
    *,
    how: Augmentation,
    side: int,
    seed: int,
    epoch: int,
) -> Tensor:
    """Return float images in 0..255 of shape (n, 3, side, side).

    Args:
        images: uint8 squares (n, 3, canvas, canvas).
        aspects: Original width divided by height of each image.
        samples: Number of each image in its split: the key of its randomness.
        how: What may happen.
        side: Side of the result in pixels.
        seed: Seed of the run.
        epoch: Epoch, from 1.
    """
    draws = torch.from_numpy(uniforms(AUGMENT, seed, epoch, samples, 12)).to(images.device)
    theta = _crop(draws, aspects, how) if how.area else _move(draws, how, images.shape[-1])
    if how.mirror:
        theta[:, :, 0] *= (2 * draws[:, :1] - 1).sign()
    grid = functional.affine_grid(theta, [len(images), 3, side, side], align_corners=False)
    result = functional.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    if how.jitter:
        result = _jitter(result, draws[:, 5:8], how.jitter)
    return _erase(result, draws[:, 8:12], how.erase) if how.erase else result


def _crop(draws: Tensor, aspects: Tensor, how: Augmentation) -> Tensor:
    """Choose a box of random area and aspect ratio inside each image."""
    low, high = how.area or (1.0, 1.0)
    area = low + (high - low) * draws[:, 1]
    logs = math.log(how.aspect[0]), math.log(how.aspect[1])
    aspect = torch.exp(logs[0] + (logs[1] - logs[0]) * draws[:, 2]) / aspects
    width = (area * aspect).sqrt().clamp(max=1.0)
    height = (area / width).clamp(max=1.0)
    x = (1 - width) * (2 * draws[:, 3] - 1)
    y = (1 - height) * (2 * draws[:, 4] - 1)
    zero = torch.zeros_like(x)
    return torch.stack([width, zero, x, zero, height, y], dim=1).reshape(-1, 2, 3)


def _move(draws: Tensor, how: Augmentation, canvas: int) -> Tensor:
    """Choose a small turn, zoom and shift; a shift alone is by whole pixels and stays sharp."""
    angle = (2 * draws[:, 1] - 1) * math.radians(how.degrees)
    zoom = 1 + (2 * draws[:, 2] - 1) * how.zoom
    shift = (2 * draws[:, 3:5] - 1) * how.shift * canvas
    if not how.zoom and not how.degrees:
        shift = shift.round()
    shift = shift * 2 / canvas
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    return torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).reshape(-1, 2, 3)


def _jitter(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    factors = 1 + (2 * draws - 1) * strength
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 255)


def _erase(images: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Fill a random box of 2 to 25 percent with the image's mean colour, for some images."""
    side = images.shape[-1]
    lines = (torch.arange(side, device=images.device) + 0.5) / side
    half = (0.02 + 0.23 * draws[:, 1]).sqrt() / 2
    rows = (lines - draws[:, 2, None]).abs() < half[:, None]
    columns = (lines - draws[:, 3, None]).abs() < half[:, None]
    box = rows[:, :, None] & columns[:, None, :] & (draws[:, 0] < probability)[:, None, None]
    return torch.where(box[:, None], images.mean((2, 3), keepdim=True), images)
