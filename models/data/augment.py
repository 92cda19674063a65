"""Random changes of a batch of training images, each a pure function of (seed, epoch, sample).

Which part of an image is seen is for `models.data.views`. Changes of colour and shape beyond that
are torchvision's own, image by image, each under a seed of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from models.compute.transfer import sent
from models.data import views
from models.data.randomness import AUGMENT, POLICY, bits, uniforms
from models.inference.preprocess import Preprocess
from models.planning.augmentation import AREA, ZOOM, any_of
from models.planning.conditions import SMALL_INPUT
from models.planning.plan import Plan

SMOOTH = InterpolationMode.BILINEAR  # The default takes the nearest pixel, which tears edges.
POLICIES: dict[str, Callable[[], v2.Transform]] = {
    "trivial_augment": partial(v2.TrivialAugmentWide, interpolation=SMOOTH),
    "rand_augment": partial(v2.RandAugment, interpolation=SMOOTH),
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


def planned(plan: Plan) -> Augmentation | None:
    """Return the augmentation of a plan; None where every epoch sees the same images."""
    if not any_of(vars(plan)):
        return None
    return named(plan.augmentation, plan.image_size, plan.augmentation_policy, plan.erasing)


def named(name: str, side: int, policy: str = "none", erase: float = 0.0) -> Augmentation:
    """Return the augmentation of a name for inputs of `side` pixels."""
    if name == "none":
        return Augmentation(policy=policy, erase=erase)
    if name == "light":
        return Augmentation(shift=0.09, zoom=ZOOM, degrees=8.0, policy=policy, erase=erase)
    if side <= SMALL_INPUT:
        # Small networks cannot use much variety: LeNet got 0.02 more of CIFAR-10 right at 2 pixels.
        shift = 0.125 if name == "strong" else 0.0625
        return Augmentation(shift=shift, mirror=True, policy=policy, erase=erase)
    return Augmentation(area=AREA[name], mirror=True, policy=policy, erase=erase)


def augment(
    images: Tensor | list[Tensor],
    samples: NDArray[np.int64],
    *,
    augmentation: Augmentation,
    preprocess: Preprocess,
    seed: int,
    epoch: int,
) -> Tensor:
    """Return float images in 0..255 of shape (n, 3, crop, crop), on the device of `images`.

    What happens to an image is drawn on the CPU, so a GPU shows the same views up to rounding.

    Args:
        images: uint8 canvases (3, height, width); where pixels only change their places, the very
            crops (n, 3, crop, crop).
        samples: Number of each image in its split: the key of its randomness.
        augmentation: What may happen.
        preprocess: By which images are evaluated.
        seed: Seed of the run.
        epoch: Epoch, from 1.
    """
    drawn = uniforms(AUGMENT, seed, epoch, samples, 12)
    draws = torch.from_numpy(drawn)
    if isinstance(images, Tensor):
        result = _shifted(images, sent(draws, images.device.type), augmentation).float()
    elif augmentation.area:
        area, aspect = augmentation.area, augmentation.aspect
        chosen = views.boxes(drawn, images, area=area, aspect=aspect, preprocess=preprocess)
        result = views.crops(images, chosen, preprocess, mirror=augmentation.mirror)
    else:
        result = views.moves(
            drawn,
            images,
            preprocess,
            shift=augmentation.shift,
            zoom=augmentation.zoom,
            degrees=augmentation.degrees,
        )
    if augmentation.policy != "none":
        keys = bits(POLICY, seed, epoch, samples.astype(np.uint64))
        result = _changed(result, augmentation.policy, keys)
    if augmentation.erase:
        result = _erase(result, sent(draws[:, 8:12], result.device.type), augmentation.erase)
    return result


def _shifted(images: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    """Shift by whole pixels and mirror: one gather instead of an interpolation."""
    side = images.shape[-1]
    line = torch.arange(side, device=images.device)
    shift = ((2 * draws[:, 3:5] - 1) * augmentation.shift * side).round().long()
    columns = (line + shift[:, :1]).clamp(0, side - 1)
    rows = (line + shift[:, 1:]).clamp(0, side - 1)
    if augmentation.mirror:
        columns = torch.where(draws[:, :1] < 0.5, columns.flip(1), columns)  # noqa: PLR2004 - half of them.
    places = (rows[:, :, None] * side + columns[:, None, :]).flatten(1)
    flat = images.flatten(2)
    return flat.gather(2, places[:, None].expand(flat.shape)).reshape(images.shape)


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
