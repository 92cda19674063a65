"""Mix images of a batch and their labels: MixUp (arXiv:1710.09412), CutMix (arXiv:1905.04899)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from models.planning.plan import Plan

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def planned(plan: Plan, classes: int) -> Mix:
    """Return what to do to images (n, 3, h, w) and labels (n,) of a step before the network.

    Mixed labels are shares (n, classes) that sum to 1. torchvision draws from the global generator,
    which the loop seeds by (seed, epoch, step) before each step: who is mixed with whom is a
    function of these. One image alone has no partner and stays as it is.
    """
    kinds: list[v2.Transform] = []
    if plan.mixup:
        kinds.append(v2.MixUp(alpha=plan.mixup, num_classes=classes))
    if plan.cutmix:
        kinds.append(v2.CutMix(alpha=plan.cutmix, num_classes=classes))

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not kinds or len(labels) == 1:
            return images, labels
        kind = kinds[int(torch.randint(len(kinds), ()))]
        mixed, shares = kind(images, labels)
        return mixed, shares

    return mix
