"""Which images are held out together: folds of a cross-validation.

Images that are nearly the same stay in one fold, or a head that saw one would answer for the other.
"""

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


def chosen(images: int, most: int, seed: int) -> Tensor:
    """Return the numbers of at most so many of the images, by chance, in order."""
    keys = bits(FOLD, seed, np.arange(images, dtype=np.uint64))
    return torch.from_numpy(np.sort(np.argsort(keys, kind="stable")[:most]))


def deal(features: Tensor, labels: Tensor) -> Tensor | str:
    """Return the fold of each image (n,), or why none of some class can be held out.

    Groups go out the largest first, each to the fold with fewest images of its class: so do
    stratified group folds of scikit-learn.

    Args:
        features: Standardised, (n, d).
        labels: Class numbers, (n,).
    """
    sizes = torch.bincount(labels)
    if int(sizes[sizes > 0].min()) < 2:  # noqa: PLR2004 - one to hold out, one to learn from.
        return "some class has too few images to hold any out"
    groups = near_duplicates(features)
    if any(len(torch.unique(groups[labels == one])) == 1 for one in torch.unique(labels)):
        return "all images of some class are nearly the same, so none can be held out"
    members: dict[int, list[int]] = {}
    for image, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(image)
    count = MOST_FOLDS if len(labels) < FEW else FOLDS
    filled = np.zeros((count, len(sizes)))
    folds = torch.zeros(len(labels), dtype=torch.int64)
    for some in sorted(members.values(), key=lambda images: (-len(images), images[0])):
        counts = np.bincount(labels[some].numpy(), minlength=len(sizes))
        fold = int((filled[:, counts > 0].sum(1) + 1e-6 * filled.sum(1)).argmin())
        filled[fold] += counts
        folds[some] = fold
    return folds


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
