"""Score the answers of a batch about the images whose class is known and one of the network's."""

import math
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from models.evaluation import abstention, metrics
from models.evaluation.evaluate import WORST
from models.evaluation.intervals import intervals
from models.prediction.parts import Row
from topwork.kinds import AbstainReason, Decision

SEED = 42  # Of the resamples that give the intervals.
UNSPLIT = "all"  # The name under which images without a split are scored.
# True, predicted, confidence, that of the true class, in top k, why it is not relied on.
Fact = tuple[int, int, float, float, bool, AbstainReason | None]


class Tally:
    """Gathers what scores need of each answer: some numbers, and the worst answers whole.

    Args:
        classes: Names of the network's outputs.
        top_k: How many classes an answer names.
        unavailable: Why every answer is relied on; None where the model may abstain.
    """

    def __init__(self, classes: list[str], top_k: int, unavailable: str | None = None) -> None:
        self._unavailable = unavailable
        self._classes, self._k = classes, min(metrics.TOP_K, top_k, len(classes))
        self._facts: dict[str, list[Fact]] = defaultdict(list)
        self._wrong: dict[str, list[tuple[float, int, dict[str, Any]]]] = defaultdict(list)
        self.images = self.failed = self.abstained = 0

    def add_all(self, rows: Iterable[Row]) -> "Tally":
        """Take every answer; return this tally."""
        for row in rows:
            self.images += 1
            self.failed += "error" in row
            self.abstained += row.get("decision") == Decision.ABSTAIN
            if row.get("class_index") is not None:
                self._add(row["split"] or UNSPLIT, row)
        return self

    def _add(self, split: str, row: Row) -> None:
        true, ranked = row["class_index"], [one["index"] for one in row["predictions"]]
        sure = row["class_confidence"]
        among = true in ranked[: self._k]
        fact = true, ranked[0], row["confidence"], sure, among, row["reason"]
        self._facts[split].append(fact)
        if ranked[0] != true:
            loss = -math.log(max(sure, sys.float_info.min))
            self._wrong[split].append((-loss, row["index"], _wrong(row, loss)))
            if len(self._wrong[split]) > 2 * WORST:
                self._wrong[split] = sorted(self._wrong[split])[:WORST]

    def scores(self) -> dict[str, dict[str, Any]]:
        """Return the evaluation of each split with known classes; `all` where there is no split."""
        return {split: self._scores(split) for split in sorted(self._facts)}

    def _scores(self, split: str) -> dict[str, Any]:
        true, predicted, confidence, sure, among, reasons = zip(*self._facts[split], strict=True)
        labels, guesses = torch.tensor(true), torch.tensor(predicted)
        served, own = _float64(confidence), _float64(sure)
        return {
            **metrics.of_labels(guesses, labels, self._classes),
            "top_k": {"k": self._k, "accuracy": sum(among) / len(among)},
            "log_loss": float(-own.clamp(min=sys.float_info.min).log().mean()),
            "ece": metrics.calibration_error(metrics.reliability(served, guesses == labels)),
            "intervals": intervals(guesses, labels, len(self._classes), seed=SEED),
            "abstention": abstention.scores(
                list(reasons), served, guesses == labels, self._unavailable
            ),
            "errors": [wrong for _, _, wrong in sorted(self._wrong[split])[:WORST]],
        }


def _float64(numbers: Iterable[float]) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.float64)


def _wrong(row: Row, loss: float) -> dict[str, Any]:
    return {
        "sha256": row["sha256"],
        "path": row["path"],
        "true": row["class"],
        "predicted": row["label"],
        "confidence": round(row["confidence"], 6),
        "loss": round(loss, 6),
    }
