"""Confidence intervals: how far a score may be from the truth.

Accuracy is a share of independent images, so its interval is Wilson's (Journal of the American
Statistical Association 22, 1927), which also says something where all images are right. For macro
F1 the images are drawn again, as many as there are, with replacement, and scored each time. It
depends on how often each pair (true class, predicted class) occurs and on nothing else, so the
pairs' counts are drawn from a multinomial distribution: the same draw, without a list of images.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEVEL = 0.95
DEVIATIONS = 1.959963984540054  # Of the normal distribution, on either side of LEVEL.
RESAMPLES = 1000


def wilson(right: int, images: int, deviations: float = DEVIATIONS) -> dict[str, float]:
    """Return Wilson's interval {low, high} of a share, from images >= 1; never of no width."""
    share, square = right / images, deviations**2 / images
    middle = (share + square / 2) / (1 + square)
    reach = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    low = 0.0 if right == 0 else max(0.0, middle - reach)
    high = 1.0 if right == images else min(1.0, middle + reach)
    return {"low": low, "high": high}


def standard_error(share: float, images: int) -> float:
    """Return the standard error of a share of images >= 1.

    One image is added on either side (Agresti and Coull, The American Statistician 52, 1998): a
    share of 1 from twenty images is no certainty.
    """
    moved = (share * images + 1) / (images + 2)
    return math.sqrt(moved * (1 - moved) / (images + 2))


def intervals(
    predicted: Tensor, labels: Tensor, classes: int, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Return the intervals of accuracy and macro F1 as {low, high}, from n >= 1 images.

    Where all images are right or all are wrong, every resample is equal and says nothing about the
    images that were not seen; macro F1 then has the interval of the accuracy.
    """
    right = int((predicted == labels).sum())
    accuracy = wilson(right, len(labels))
    stated = {"level": LEVEL, "resamples": resamples, "seed": seed, "accuracy": accuracy}
    if right in {0, len(labels)}:
        return {**stated, "macro_f1": accuracy}
    cells, counts = torch.unique(labels * classes + predicted, return_counts=True)
    true, guess = (cells // classes).numpy(), (cells % classes).numpy()
    shares = counts.double().numpy() / len(labels)
    generator = np.random.default_rng(seed)
    scores = np.empty(resamples)
    for number in range(resamples):
        drawn = generator.multinomial(len(labels), shares)
        hits = np.bincount(true, drawn * (true == guess), classes)
        support = np.bincount(true, drawn, classes)
        f1 = 2 * hits / np.maximum(support + np.bincount(guess, drawn, classes), 1)
        scores[number] = f1[support > 0].mean()
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(scores, (tail, 1 - tail)).tolist()
    return {**stated, "macro_f1": {"low": low, "high": high}}
