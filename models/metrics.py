"""Classification metrics from logits and labels; classes without images count nowhere.

A class that has no image in a split has no recall and is left out of the averages, so that a
class missing in `val` neither breaks nor distorts anything.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

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
        "loss": float(torch.nn.functional.cross_entropy(logits, labels)),
        "accuracy": float((predicted == labels).double().mean()),
        "macro_f1": float(table["f1"][table["support"] > 0].mean()),
    }


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Return the expected calibration error over equal bins of confidence (arXiv:1706.04599)."""
    bins = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    gap = torch.zeros(CALIBRATION_BINS, dtype=torch.float64)
    gap.index_add_(0, bins, confidence.double() - correct.double())
    return float(gap.abs().sum() / max(1, len(confidence)))


def full(probabilities: Tensor, labels: Tensor, classes: list[str]) -> dict[str, Any]:
    """Return the evaluation of one split as JSON; `probabilities` (n, classes), n >= 1."""
    confidence, predicted = probabilities.max(1)
    table = per_class(predicted, labels, len(classes))
    present = table["support"] > 0
    share = table["support"] / table["support"].sum()
    names = ("precision", "recall", "f1")
    ranked = probabilities.topk(min(TOP_K, len(classes)), 1).indices
    true = probabilities.gather(1, labels[:, None]).double().clamp(min=1e-12)
    return {
        "images": len(labels),
        "accuracy": float((predicted == labels).double().mean()),
        "top_k": {
            "k": ranked.shape[1],
            "accuracy": float((ranked == labels[:, None]).any(1).double().mean()),
        },
        "macro": {name: float(table[name][present].mean()) for name in names},
        "weighted": {name: float((table[name] * share).sum()) for name in names},
        "log_loss": float(-true.log().mean()),
        "ece": calibration_error(confidence, predicted == labels),
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
