"""Random changes of a batch of training images, each a pure function of (seed, epoch, sample).

Images lie in the cache as squares with their original aspect ratio noted beside them, so that one
sampling per batch crops, scales, shifts and mirrors all of them at once. Changes of colour and
shape beyond that are torchvision's own, image by image, each under a seed of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from models.compute.transfer import sent
from models.data.randomness import AUGMENT, POLICY, bits, uniforms
from models.planning import augmentation
from models.planning.plan import Plan

POLICIES: dict[str, Callable[[], v2.Transform]] = {
    "trivial_augment": v2.TrivialAugmentWide,
    "rand_augment": v2.RandAugment,
}


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image, as data.

    `area` and `aspect` are the ranges of the random crop (torchvision's RandomResizedCrop);
    `shift`, `zoom` and `degrees` move the centred square when there is no crop; `policy` is one of
    POLICIES; `erase` is the probability that a box is filled.
    """

    area: tuple[float, float] | None = None
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    shift: float = 0.0
    zoom: float = 0.0
    degrees: float = 0.0
    mirror: bool = False
    policy: str = "none"
    erase: float = 0.0

    @property
    def whole_pixels(self) -> bool:
        """Tell whether pixels only change their places."""
        return not (self.area or self.zoom or self.degrees)


SMALL_SIDE = 64  # Inputs up to this side are icons, digits and the like: no crop to a part.


def planned(plan: Plan) -> Augmentation | None:
    """Return the augmentation of a plan; None where every epoch sees the same images."""
    chosen = {name: getattr(plan, name) for name in augmentation.FIELDS}
    if not augmentation.any_of(chosen):
        return None
    return named(plan.augmentation, plan.image_size, plan.augmentation_policy, plan.erasing)


def named(name: str, side: int, policy: str = "none", erase: float = 0.0) -> Augmentation:
    """Return the augmentation of a name for inputs of `side` pixels."""
    if name == "none":
        return Augmentation(policy=policy, erase=erase)
    if name == "light":
        return Augmentation(shift=0.09, zoom=0.1, degrees=8.0, policy=policy, erase=erase)
    strong = name == "strong"
    if side <= SMALL_SIDE:
        # Small networks cannot use much variety: LeNet got 0.02 more of CIFAR-10 right at 2 pixels.
        shift = 0.125 if strong else 0.0625
        return Augmentation(shift=shift, mirror=True, policy=policy, erase=erase)
    area = (0.08, 1.0) if strong else (0.35, 1.0)
    return Augmentation(area=area, mirror=True, policy=policy, erase=erase)


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
    """Return float images in 0..255 of shape (n, 3, side, side), on the device of `images`.

    What happens to an image is drawn on the CPU, so a GPU shows the same views up to rounding.

    Args:
        images: uint8 squares (n, 3, canvas, canvas); of images that are not square, `canvas` must
            differ from `side`.
        aspects: Original width divided by height of each image, on the CPU.
        samples: Number of each image in its split: the key of its randomness.
        how: What may happen.
        side: Side of the result in pixels.
        seed: Seed of the run.
        epoch: Epoch, from 1.
    """
    place = images.device.type
    draws = torch.from_numpy(uniforms(AUGMENT, seed, epoch, samples, 12))
    if how.whole_pixels and images.shape[-1] == side:
        result = _shifted(images, sent(draws, place), how).float()
    else:
        theta = _crop(draws, aspects, how) if how.area else _move(draws, how, aspects, side)
        if how.mirror:
            theta[:, :, 0] *= (2 * draws[:, :1] - 1).sign()
        result = functional.grid_sample(
            images.float(),
            _grid(sent(theta, place), side),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
    if how.policy != "none":
        result = _changed(result, how.policy, bits(POLICY, seed, epoch, samples.astype(np.uint64)))
    return _erase(result, sent(draws[:, 8:12], place), how.erase) if how.erase else result


def _shifted(images: Tensor, draws: Tensor, how: Augmentation) -> Tensor:
    """Shift by whole pixels and mirror: one gather instead of an interpolation."""
    side = images.shape[-1]
    line = torch.arange(side, device=images.device)
    shift = ((2 * draws[:, 3:5] - 1) * how.shift * side).round().long()
    columns = (line + shift[:, :1]).clamp(0, side - 1)
    rows = (line + shift[:, 1:]).clamp(0, side - 1)
    if how.mirror:
        columns = torch.where(draws[:, :1] < 0.5, columns.flip(1), columns)  # noqa: PLR2004 - half of them.
    places = (rows[:, :, None] * side + columns[:, None, :]).flatten(1)
    flat = images.flatten(2)
    return flat.gather(2, places[:, None].expand(flat.shape)).reshape(images.shape)


def _grid(theta: Tensor, side: int) -> Tensor:
    """Return the places (n, side, side, 2) to sample, from -1 to 1 over the image.

    `affine_grid` does the same by a product of tiny matrices, which takes longer than the sampling.
    """
    line = (2 * torch.arange(side, device=theta.device) + 1) / side - 1
    across, down, shift = theta[:, None, None].unbind(-1)
    return across * line[:, None] + (down * line[:, None, None] + shift)


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


def _move(draws: Tensor, how: Augmentation, aspects: Tensor, side: int) -> Tensor:
    """Choose a small turn, zoom and shift of the square in the middle of each image."""
    angle = (2 * draws[:, 1] - 1) * math.radians(how.degrees)
    zoom = 1 + (2 * draws[:, 2] - 1) * how.zoom
    shift = (2 * draws[:, 3:5] - 1) * how.shift * side
    if how.whole_pixels:
        shift = shift.round()
    shift = shift * 2 / side
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    width, height = (1 / aspects).clamp(max=1.0), aspects.clamp(max=1.0)
    columns = width[:, None] * torch.stack([cos, -sin, shift[:, 0]], dim=1)
    rows = height[:, None] * torch.stack([sin, cos, shift[:, 1]], dim=1)
    return torch.stack([columns, rows], dim=1)


def _changed(images: Tensor, policy: str, keys: NDArray[np.uint64]) -> Tensor:
    """Apply torchvision's policy to each image (float, 0..255) under its own seed."""
    change = POLICIES[policy]()
    bytes_ = images.round().clamp(0, 255).to(torch.uint8)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator.
        for number, key in enumerate(keys):
            torch.default_generator.manual_seed(int(key >> np.uint64(1)))
            bytes_[number] = change(bytes_[number])
    return bytes_.to(images)


def _erase(images: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Fill a random box of 2 to 25 percent with the image's mean colour, for some images."""
    side = images.shape[-1]
    lines = (torch.arange(side, device=images.device) + 0.5) / side
    half = (0.02 + 0.23 * draws[:, 1]).sqrt() / 2
    rows = (lines - draws[:, 2, None]).abs() < half[:, None]
    columns = (lines - draws[:, 3, None]).abs() < half[:, None]
    box = rows[:, :, None] & columns[:, None, :] & (draws[:, 0] < probability)[:, None, None]
    return torch.where(box[:, None], images.mean((2, 3), keepdim=True), images)
