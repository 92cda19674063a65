"""Answers of heads that had not seen the image, and by them the weight decay of a linear head.

Every pair of (decay, fold) is a head of its own; side by side they are one matrix, and a training
image simply does not count for the heads whose fold holds it out. The search costs little more
than training one head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.data.dataset import batch_count, batches
from models.data.randomness import FOLD, bits, order
from models.planning.plan import Plan
from models.training import recipe

CANDIDATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
DEFAULT = 3.0
MOMENTUM = 0.9
FOLDS = 5
MOST_IMAGES = 4096
CHUNK = 512  # Images compared with all others at once.
ALIKE = 0.9  # Cosine of the standardised features of two images that are nearly the same.
MOST_OPERATIONS = 5e11  # Floating-point operations: some five seconds on two cores.


@dataclass(frozen=True)
class Choice:
    """A decay and how it was found."""

    value: float
    reason: str


def choose(features: Tensor, labels: Tensor, classes: int, plan: Plan, seed: int) -> Choice:
    """Return the largest candidate within one standard error of the smallest held-out log loss.

    Small data sets tell neighbours hardly apart, and the stronger decay is the safer bet (the
    one-standard-error rule of Breiman et al., "Classification and Regression Trees", 1984).

    Args:
        features: Standardised training features (n, d).
        labels: Class numbers (n,).
        classes: Number of classes.
        plan: Gives learning rate, batch size, epochs and smoothing.
        seed: Seed of folds and order.
    """
    found = answers(features, labels, classes, plan, seed, CANDIDATES)
    if isinstance(found, str):
        return Choice(DEFAULT, f"a usual value: {found}")
    labels = labels[found.images]
    losses = _losses(found.logits, labels)
    means, best = losses.mean(0), int(losses.mean(0).argmin())
    bound = means[best] + losses[:, best].std() / len(losses) ** 0.5
    strongest = int((means <= bound).nonzero().max())
    table = ", ".join(f"{c:g}: {x:.4f}" for c, x in zip(CANDIDATES, means.tolist(), strict=True))
    words = (
        f"strongest within one standard error of the smallest log loss in {FOLDS}-fold"
        f" cross-validation of {len(labels)} images ({table})"
    )
    return Choice(CANDIDATES[strongest], words)


@dataclass(frozen=True)
class Answers:
    """What heads that had not seen an image said about it.

    Attributes:
        images: Numbers of the images, (n,), in order.
        logits: Float32 (n, candidates, classes).
    """

    images: Tensor
    logits: Tensor


def answers(
    features: Tensor,
    labels: Tensor,
    classes: int,
    plan: Plan,
    seed: int,
    candidates: Sequence[float],
) -> Answers | str:
    """Return the out-of-fold answers at each candidate decay, or why there are none.

    Images that are nearly the same are held out together. Arguments are as of `choose`.
    """
    keys = bits(FOLD, seed, np.arange(len(labels), dtype=np.uint64))
    chosen = torch.from_numpy(np.sort(np.argsort(keys, kind="stable")[:MOST_IMAGES]))
    features, labels, keys = features[chosen], labels[chosen], keys[chosen.numpy()]
    steps = plan.epochs * batch_count(len(labels), plan.batch_size)
    heads = FOLDS * len(candidates)
    operations = 6.0 * steps * plan.batch_size * features.shape[1] * classes * heads
    if operations > MOST_OPERATIONS:
        return "the search would take too long for so many classes"
    sizes = torch.bincount(labels)
    if int(sizes[sizes > 0].min()) < 2:  # noqa: PLR2004 - one to hold out, one to learn from.
        return "some class has too few images to hold any out"
    groups = near_duplicates(features)
    if any(len(torch.unique(groups[labels == one])) == 1 for one in torch.unique(labels)):
        return "all images of some class are nearly the same, so none can be held out"
    alone = len(torch.unique(groups)) == len(labels)
    folds = _folds(keys, labels) if alone else deal(groups, labels)
    logits = _held_out(features, labels, folds, classes, plan, seed, candidates)
    return Answers(chosen, logits)


def trains_as(plan: Plan) -> bool:
    """Tell whether a head that is trained by this plan is trained as the heads here are.

    They take AdamW, the plain cross entropy, and every image once an epoch, unmixed; rate,
    smoothing, batches and epochs are the plan's.
    """
    usual = (plan.optimizer, plan.momentum, plan.imbalance) == ("adamw", MOMENTUM, "none")
    return usual and plan.ema is None and not (plan.mixup or plan.cutmix)


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


def deal(groups: Tensor, labels: Tensor) -> Tensor:
    """Deal groups out to folds, the largest first, each to the fold with fewest of its class."""
    members: dict[int, list[int]] = {}
    for image, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(image)
    filled = np.zeros((FOLDS, int(labels.max()) + 1))
    folds = torch.zeros(len(labels), dtype=torch.int64)
    for some in sorted(members.values(), key=lambda images: (-len(images), images[0])):
        counts = np.bincount(labels[some].numpy(), minlength=filled.shape[1])
        fold = int((filled[:, counts > 0].sum(1) + 1e-6 * filled.sum(1)).argmin())
        filled[fold] += counts
        folds[some] = fold
    return folds


def _folds(keys: np.ndarray[tuple[int, ...], np.dtype[np.uint64]], labels: Tensor) -> Tensor:
    """Deal the images of each class out to the folds in random order."""
    ranked = np.lexsort((keys, labels.numpy()))
    folds = np.empty(len(ranked), np.int64)
    folds[ranked] = np.arange(len(ranked)) % FOLDS
    return torch.from_numpy(folds)


def _held_out(
    features: Tensor,
    labels: Tensor,
    folds: Tensor,
    classes: int,
    plan: Plan,
    seed: int,
    candidates: Sequence[float],
) -> Tensor:
    """Train all heads; return the held-out logits (n, candidates, classes)."""
    count = len(candidates)
    shape = (FOLDS, count, classes)
    weight = torch.zeros(features.shape[1], FOLDS * count * classes, requires_grad=True)
    bias = torch.zeros(FOLDS * count * classes, requires_grad=True)
    betas = (MOMENTUM, 0.999)
    optimizer = torch.optim.AdamW([weight, bias], betas=betas, weight_decay=0.0, fused=True)
    decays = torch.tensor(candidates)[None, :, None].expand(shape).reshape(-1)
    steps = batch_count(len(labels), plan.batch_size)
    for epoch in range(1, plan.epochs + 1):
        parts = batches(order(seed, epoch, len(labels)), plan.batch_size)
        for step, part in enumerate(parts):
            rate = recipe.rate_at(plan, (epoch - 1) * steps + step, steps)
            optimizer.param_groups[0]["lr"] = rate
            indices = torch.from_numpy(part)
            logits = (features[indices] @ weight + bias).reshape(-1, *shape)
            seen = folds[indices][:, None] != torch.arange(FOLDS)
            losses = _losses(logits.flatten(1, 2), labels[indices], plan.label_smoothing)
            losses = losses.reshape(-1, FOLDS, count)
            counted = (losses * seen[:, :, None]).sum(0) / seen.sum(0).clamp(min=1)[:, None]
            optimizer.zero_grad()
            counted.sum().backward()  # type: ignore[no-untyped-call] # torch says no type.
            with torch.no_grad():
                weight.mul_(1 - rate * decays)
            optimizer.step()
    with torch.no_grad():
        logits = (features @ weight + bias).reshape(-1, *shape)
        return logits[torch.arange(len(labels)), folds]


def _losses(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the cross entropy (n, heads) of logits (n, heads, classes)."""
    targets = labels[:, None].expand(logits.shape[:-1])
    return functional.cross_entropy(
        logits.movedim(-1, 1), targets, reduction="none", label_smoothing=smoothing
    )
