"""Bootstrap confidence intervals: how far a score may be from the truth.

The images of a split are drawn again, as many as there are, with replacement, and scored each
time. A score depends on how often each pair (true class, predicted class) occurs and on nothing
else, so the pairs' counts are drawn from a multinomial distribution: the same draw, without a list
of images.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

LEVEL = 0.95
RESAMPLES = 1000


def bootstrap(
    predicted: Tensor, labels: Tensor, classes: int, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Return percentile intervals of accuracy and macro F1 as {low, high}, from n >= 1 images.

    They are null where all images are right or all are wrong: then every resample is equal, which
    says nothing about the images that were not seen.
    """
    stated = {"level": LEVEL, "resamples": resamples, "seed": seed}
    right = int((predicted == labels).sum())
    if right in {0, len(labels)}:
        return {**stated, "accuracy": None, "macro_f1": None}
    cells, counts = torch.unique(labels * classes + predicted, return_counts=True)
    true, guess = (cells // classes).numpy(), (cells % classes).numpy()
    shares = counts.double().numpy() / len(labels)
    generator = np.random.default_rng(seed)
    scores = np.empty((2, resamples))
    for number in range(resamples):
        drawn = generator.multinomial(len(labels), shares)
        hits = np.bincount(true, drawn * (true == guess), classes)
        support = np.bincount(true, drawn, classes)
        f1 = 2 * hits / np.maximum(support + np.bincount(guess, drawn, classes), 1)
        scores[:, number] = hits.sum() / len(labels), f1[support > 0].mean()
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(scores, (tail, 1 - tail), axis=1).tolist()
    names = ("accuracy", "macro_f1")
    return stated | {
        name: {"low": least, "high": most}
        for name, least, most in zip(names, low, high, strict=True)
    }
