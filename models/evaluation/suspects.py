"""Images that somebody should look at: labels that are likely wrong, and images like no other.

Both follow from what networks said about images that they had not seen.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.data.dataset import Sample, labels_of
from models.evaluation.confident_learning import label_errors
from models.inference.calibration import probabilities
from topwork.kinds import AbstainReason, SuspectKind

FILE = "suspects.jsonl"


class Judged(NamedTuple):
    """Images, and what was said about them by networks that had not seen them.

    Attributes:
        samples: The images, n.
        logits: Float32 (n, classes).
        reasons: Why the answers are not relied on, n.
        similarities: To known images, cosines (n,); None where the model has no measure of it.
    """

    samples: Sequence[Sample]
    logits: Tensor
    reasons: Sequence[AbstainReason | None]
    similarities: Tensor | None


@dataclass(frozen=True)
class Suspects:
    """A line for each suspect, those of one kind together, the worst first, out of `judged` images.

    A line has `sha256`, `path` and `class`, the `finding` and its `score`, 0..1: of a label that is
    likely wrong 1 minus the probability of its class, of an outlier 1 minus its similarity to known
    images. `likely` is the most probable class, null for an outlier.
    """

    judged: int = 0
    lines: Sequence[dict[str, Any]] = field(default_factory=list)

    def count(self, kind: SuspectKind) -> int:
        """Return how many images are suspects of this kind."""
        return sum(line["finding"] == kind for line in self.lines)

    def stated(self) -> dict[str, int]:
        """Return the card's `suspects`: how many images were judged, and how many are which."""
        return {"judged": self.judged, **{kind: self.count(kind) for kind in SuspectKind}}

    def words(self) -> str:
        """Say how many there are, and of how many images; nothing where there are none."""
        labels, outliers = map(self.count, SuspectKind)
        found = [f"{labels} may have a wrong label"] if labels else []
        found += [f"{outliers} are like no other"] if outliers else []
        return f"Of {self.judged} images {' and '.join(found)}." if found else ""

    def write(self, folder: Path) -> None:
        """Write `suspects.jsonl`."""
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines)
        (folder / FILE).write_text(text, encoding="utf-8")


def find(parts: Sequence[Judged], classes: Sequence[str], temperature: float) -> Suspects:
    """Return the suspects among the images of all parts, none of which has another's images.

    Logits are divided by the temperature; the ceiling of confidences would make equals of the
    surest answers, and a ranking needs none. An outlier is an image whose answer is not relied on
    because it is like no known one.
    """
    if not parts:
        return Suspects()
    samples = [sample for part in parts for sample in part.samples]
    shares = probabilities(torch.cat([part.logits for part in parts]), temperature, 1.0)
    found = label_errors(shares, labels_of(samples))

    def line(number: int, kind: SuspectKind, score: float, likely: str | None) -> dict[str, Any]:
        sample = samples[number]
        return {
            "sha256": sample.sha256,
            "path": sample.path,
            "class": classes[sample.label],
            "finding": kind,
            "score": round(min(max(score, 0.0), 1.0), 6),
            "likely": likely,
        }

    lines = [
        line(
            number,
            SuspectKind.LABEL,
            float(found.scores[number]),
            classes[int(found.likely[number])],
        )
        for number in found.flagged.nonzero()[:, 0].tolist()
    ]
    before = 0
    for part in parts:
        if part.similarities is not None:
            lines += [
                line(before + number, SuspectKind.OUTLIER, 1 - float(similarity), None)
                for number, similarity in enumerate(part.similarities.tolist())
                if part.reasons[number] == AbstainReason.UNKNOWN
            ]
        before += len(part.samples)
    lines.sort(key=lambda it: (it["finding"], -it["score"], it["sha256"]))
    return Suspects(len(samples), lines)
