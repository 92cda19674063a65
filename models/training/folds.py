"""Which images are held out together: folds of a cross-validation.

Images that are nearly the same stay in one fold, or a head that saw one would answer for the other.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.data.randomness import FOLD, bits

FOLDS = 5
MOST_FOLDS = 10  # For fewer images than FEW: each head then learns from nine tenths of them.
FEW = 200
CHUNK = 512  # Images compared with all others at once.
ALIKE = 0.9  # Cosine of the standardised features of two images that are nearly the same.
ALWAYS_SEEN = -1  # The fold of images that are never held out.


class Dealt(NamedTuple):
    """The fold of each image (n,), or ALWAYS_SEEN; images of one of the `groups` (n,) are alike."""

    folds: Tensor
    groups: Tensor


def count(images: int) -> int:
    """Return the number of folds of so many images."""
    return MOST_FOLDS if images < FEW else FOLDS


def chosen(images: int, most: int, seed: int) -> Tensor:
    """Return the numbers of at most so many of the images, by chance, in order."""
    keys = bits(FOLD, seed, np.arange(images, dtype=np.uint64))
    return torch.from_numpy(np.sort(np.argsort(keys, kind="stable")[:most]))


def deal(features: Tensor, labels: Tensor) -> Dealt | str:
    """Return which images are held out together, or why hardly any can be.

    Groups go out the largest first, each to the fold with the smallest share of its classes: so do
    stratified group folds of scikit-learn. No fold gets a whole class, of which nobody could then
    learn; where a group fits into none, all heads see it.

    Args:
        features: Standardised, (n, d).
        labels: Class numbers, (n,).
    """
    groups, sizes = near_duplicates(features), np.bincount(labels.numpy())
    members: dict[int, list[int]] = {}
    for image, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(image)
    filled = np.zeros((count(len(labels)), len(sizes)))
    folds = torch.full((len(labels),), ALWAYS_SEEN)
    for some in sorted(members.values(), key=lambda images: (-len(images), images[0])):
        counts = np.bincount(labels[some].numpy(), minlength=len(sizes))
        own = counts > 0
        left = (filled + counts < sizes)[:, own].all(1)
        if not left.any():
            continue
        # Of folds that are equally good the one with fewest images.
        shares = (filled[:, own] / sizes[own]).sum(1) + 1e-6 * filled.sum(1) / len(labels)
        fold = int(np.where(left, shares, np.inf).argmin())
        filled[fold] += counts
        folds[some] = fold
    if filled.sum() < 2:  # noqa: PLR2004 - one image has no spread.
        return "hardly any image has another of its class that is not nearly the same"
    return Dealt(folds, groups)


def near_duplicates(features: Tensor) -> Tensor:
    """Return a number for each image (n,), the same for images that are nearly the same.

    These are frames of a film or copies at another size: their standardised features (n, d) point
    almost in one direction. Groups join whatever is linked through others.
    """
    directions = functional.normalize(features, dim=1)
    pairs = []
    for start in range(0, len(features), CHUNK):
        row, other = (directions[start : start + CHUNK] @ directions.T > ALIKE).nonzero().T
        pairs.append(torch.stack([row + start, other]))
    row, other = torch.cat(pairs, 1)
    groups = torch.arange(len(features))
    while True:  # Each takes the lowest number among its like, until nothing changes.
        lower = groups.scatter_reduce(0, row, groups[other], "amin")
        lower = lower[lower]
        if torch.equal(lower, groups):
            return groups
        groups = lower
