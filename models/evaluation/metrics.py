"""Classification metrics from logits and labels; classes without images count nowhere.

A class that has no image in a split has no recall and is left out of the averages, so that a
class missing in `val` neither breaks nor distorts anything.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.inference.calibration import probabilities

CALIBRATION_BINS = 15
TOP_K = 5
LARGEST_MATRIX = 200


def per_class(predicted: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
    """Return precision, recall, f1 and support of each class, float64 (classes,).

    Precision of a class never predicted counts as 0, as scikit-learn does with a warning.
    """
    count = partial(torch.bincount, minlength=classes)
    hits = count(labels[predicted == labels]).double()
    support, guesses = count(labels).double(), count(predicted).double()
    return {
        "precision": hits / guesses.clamp(min=1),
        "recall": hits / support.clamp(min=1),
        "f1": 2 * hits / (support + guesses).clamp(min=1),
        "support": support,
    }


def quick(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return loss, accuracy and macro F1: what one epoch reports."""
    predicted = logits.argmax(1)
    table = per_class(predicted, labels, logits.shape[1])
    return {
        "loss": float(cross_entropy(logits, labels)),
        "accuracy": float((predicted == labels).double().mean()),
        "macro_f1": float(table["f1"][table["support"] > 0].mean()),
    }


def reliability(confidence: Tensor, correct: Tensor) -> list[dict[str, Any]]:
    """Return 15 equal bins of confidence: `low`, `high`, `images`, mean confidence, accuracy.

    A bin holds low <= confidence < high, the last one also 1; an empty one has null for both.
    """
    bins = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    images = torch.bincount(bins, minlength=CALIBRATION_BINS)
    sums = torch.zeros(2, CALIBRATION_BINS, dtype=torch.float64)
    sums.index_add_(1, bins, torch.stack([confidence.double(), correct.double()]))
    means = sums / images.clamp(min=1)
    return [
        {
            "low": number / CALIBRATION_BINS,
            "high": (number + 1) / CALIBRATION_BINS,
            "images": int(count),
            "confidence": _or_null(means[0, number], count),
            "accuracy": _or_null(means[1, number], count),
        }
        for number, count in enumerate(images)
    ]


def calibration_error(bins: list[dict[str, Any]]) -> float:
    """Return the expected calibration error of reliability bins (arXiv:1706.04599)."""
    filled = [one for one in bins if one["images"]]
    gaps = (one["images"] * abs(one["confidence"] - one["accuracy"]) for one in filled)
    return float(sum(gaps) / max(1, sum(one["images"] for one in filled)))


def losses(
    logits: Tensor, labels: Tensor, temperature: float = 1.0, ceiling: float = 1.0
) -> Tensor:
    """Return -log of the true class's probability, float64 (n,), exact where that is nearly 0."""
    if ceiling < 1:
        return -probabilities(logits, temperature, ceiling).gather(1, labels[:, None])[:, 0].log()
    return cross_entropy(logits.double() / temperature, labels, reduction="none")


def trust(
    logits: Tensor, labels: Tensor, temperature: float = 1.0, ceiling: float = 1.0
) -> dict[str, Any]:
    """Return log loss, calibration error and reliability bins of one calibration."""
    confidence, predicted = probabilities(logits, temperature, ceiling).max(1)
    bins = reliability(confidence, predicted == labels)
    return {
        "log_loss": float(losses(logits, labels, temperature, ceiling).mean()),
        "ece": calibration_error(bins),
        "bins": bins,
    }


def full(
    logits: Tensor,
    labels: Tensor,
    classes: list[str],
    *,
    temperature: float = 1.0,
    ceiling: float = 1.0,
) -> dict[str, Any]:
    """Return the evaluation of one split as JSON; `logits` (n, classes), n >= 1.

    The scores are those of the probabilities that are served, at temperature and ceiling;
    `calibration` compares them with the plain softmax.
    """
    served = probabilities(logits, temperature, ceiling)
    predicted = served.argmax(1)
    ranked = served.topk(min(TOP_K, len(classes)), 1).indices
    after = trust(logits, labels, temperature, ceiling)
    return {
        **of_labels(predicted, labels, classes),
        "top_k": {
            "k": ranked.shape[1],
            "accuracy": float((ranked == labels[:, None]).any(1).double().mean()),
        },
        "log_loss": after["log_loss"],
        "ece": after["ece"],
        "calibration": {
            "temperature": temperature,
            "ceiling": ceiling,
            "before": trust(logits, labels),
            "after": after,
        },
    }


def of_labels(predicted: Tensor, labels: Tensor, classes: list[str]) -> dict[str, Any]:
    """Return what predicted and true labels tell without confidences, as JSON; n >= 1."""
    table = per_class(predicted, labels, len(classes))
    present = table["support"] > 0
    share = table["support"] / table["support"].sum()
    names = ("precision", "recall", "f1")
    return {
        "images": len(labels),
        "accuracy": float((predicted == labels).double().mean()),
        "macro": {name: float(table[name][present].mean()) for name in names},
        "weighted": {name: float((table[name] * share).sum()) for name in names},
        "per_class": [
            {
                "class": name,
                "support": int(table["support"][number]),
                **{key: _or_null(table[key][number], present[number]) for key in names},
            }
            for number, name in enumerate(classes)
        ],
        "confusion": confusion(predicted, labels, classes),
    }


def confusion(predicted: Tensor, labels: Tensor, classes: list[str]) -> dict[str, Any]:
    """Count images by true class (rows) and predicted class (columns).

    Beyond 200 classes only the cells that are not 0 are listed, as (row, column, count): the
    whole table of 5000 classes would be 25 million numbers.
    """
    size = len(classes)
    cells, counts = torch.unique(labels * size + predicted, return_counts=True)
    if size > LARGEST_MATRIX:
        rows = torch.stack([cells // size, cells % size, counts], 1).tolist()
        return {"classes": classes, "matrix": None, "cells": rows}
    matrix = torch.zeros(size * size, dtype=torch.int64).index_put_((cells,), counts)
    return {"classes": classes, "matrix": matrix.reshape(size, size).tolist(), "cells": None}


def _or_null(value: Tensor, known: Tensor) -> float | None:
    return float(value) if known else None
