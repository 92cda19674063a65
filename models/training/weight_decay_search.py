"""Choose the weight decay of a linear head by cross-validation, all candidates in one go.

Every pair of (decay, fold) is a head of its own; side by side they are one matrix, and a training
image simply does not count for the heads whose fold holds it out. The search costs little more
than training one head.
"""

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
FOLDS = 5
MOST_IMAGES = 4096
MOST_WORK = 5e11  # Floating-point operations: some five seconds on two cores.


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
    keys = bits(FOLD, seed, np.arange(len(labels), dtype=np.uint64))
    chosen = torch.from_numpy(np.sort(np.argsort(keys, kind="stable")[:MOST_IMAGES]))
    features, labels, keys = features[chosen], labels[chosen], keys[chosen.numpy()]
    heads = FOLDS * len(CANDIDATES)
    steps = plan.epochs * batch_count(len(labels), plan.batch_size)
    work = 6.0 * steps * plan.batch_size * features.shape[1] * classes * heads
    if work > MOST_WORK:
        return Choice(DEFAULT, "a usual value: the search would take too long for so many classes")
    sizes = torch.bincount(labels)
    if int(sizes[sizes > 0].min()) < 2:  # noqa: PLR2004 - one to hold out, one to learn from.
        return Choice(DEFAULT, "a usual value: some class has too few images to hold any out")
    folds = _folds(keys, labels)
    losses = _held_out(features, labels, folds, classes, plan, seed)
    means, best = losses.mean(0), int(losses.mean(0).argmin())
    bound = means[best] + losses[:, best].std() / len(losses) ** 0.5
    strongest = int((means <= bound).nonzero().max())
    table = ", ".join(f"{c:g}: {x:.4f}" for c, x in zip(CANDIDATES, means.tolist(), strict=True))
    words = (
        f"strongest within one standard error of the smallest log loss in {FOLDS}-fold"
        f" cross-validation of {len(labels)} images ({table})"
    )
    return Choice(CANDIDATES[strongest], words)


def _folds(keys: np.ndarray[tuple[int, ...], np.dtype[np.uint64]], labels: Tensor) -> Tensor:
    """Deal the images of each class out to the folds in random order."""
    ranked = np.lexsort((keys, labels.numpy()))
    folds = np.empty(len(ranked), np.int64)
    folds[ranked] = np.arange(len(ranked)) % FOLDS
    return torch.from_numpy(folds)


def _held_out(
    features: Tensor, labels: Tensor, folds: Tensor, classes: int, plan: Plan, seed: int
) -> Tensor:
    """Train all heads; return the held-out log loss of each image by candidate."""
    count = len(CANDIDATES)
    shape = (FOLDS, count, classes)
    weight = torch.zeros(features.shape[1], FOLDS * count * classes, requires_grad=True)
    bias = torch.zeros(FOLDS * count * classes, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], weight_decay=0.0, fused=True)
    decays = torch.tensor(CANDIDATES)[None, :, None].expand(shape).reshape(-1)
    steps = batch_count(len(labels), plan.batch_size)
    for epoch in range(1, plan.epochs + 1):
        parts = batches(order(seed, epoch, len(labels)), plan.batch_size)
        for step, part in enumerate(parts):
            rate = recipe.rate_at(plan, (epoch - 1) * steps + step, steps)
            optimizer.param_groups[0]["lr"] = rate
            indices = torch.from_numpy(part)
            logits = (features[indices] @ weight + bias).reshape(-1, *shape)
            seen = folds[indices][:, None] != torch.arange(FOLDS)
            losses = _losses(logits, labels[indices], plan.label_smoothing)
            counted = (losses * seen[:, :, None]).sum(0) / seen.sum(0).clamp(min=1)[:, None]
            optimizer.zero_grad()
            counted.sum().backward()  # type: ignore[no-untyped-call] # torch says no type.
            with torch.no_grad():
                weight.mul_(1 - rate * decays)
            optimizer.step()
    with torch.no_grad():
        logits = (features @ weight + bias).reshape(-1, *shape)
        losses = _losses(logits, labels, 0.0)
        return losses[torch.arange(len(labels)), folds]


def _losses(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the cross entropy of logits (n, folds, candidates, classes) without the last axis."""
    wanted = labels[:, None, None].expand(logits.shape[:-1])
    return functional.cross_entropy(
        logits.movedim(-1, 1), wanted, reduction="none", label_smoothing=smoothing
    )
