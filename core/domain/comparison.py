"""Two versions of a model on one frozen set: the images that were held out from both trainings.

A version keeps what its evaluation said about each image, so a comparison needs no predictor. An
image counts where both versions have it, by content and class, in the same split: the other
images may have been trained on by one of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from topwork.errors import NotComparable
from topwork.types.comparisons import (
    BrokenImage,
    CalibrationErrors,
    Change,
    ClassChange,
    Comparison,
)

SPLITS = ("test", "val")  # The checkpoint and the temperature were chosen on `val`.
QUANTILE = 1.959964  # Of the normal distribution: an interval of 95 %.
BINS = 15  # As `models.evaluation.metrics` has them.
MOST_BROKEN = 50
NEEDED = ("sha256", "path", "split", "class", "label", "confidence")


class Answered(NamedTuple):
    """What a version's evaluation said about one image."""

    path: str
    label: str
    confidence: float


Evaluated = Mapping[str, Mapping[tuple[str, str], Answered]]
"""By split: the SHA-256 and the class of an image, and what was said about it."""


def evaluated(lines: Iterable[Mapping[str, Any]]) -> Evaluated:
    """Read the lines of a version's `predictions.jsonl`; lines that say too little are left out."""
    found: dict[str, dict[tuple[str, str], Answered]] = {split: {} for split in SPLITS}
    for line in lines:
        if line.keys() >= set(NEEDED) and line["split"] in found:
            said = Answered(line["path"], line["label"], float(line["confidence"]))
            found[line["split"]][line["sha256"], line["class"]] = said
    return found


def compare(
    old: Evaluated,
    new: Evaluated,
    *,
    model: str,
    numbers: tuple[int, int],
    classes: tuple[Sequence[str], Sequence[str]],
    split: str | None = None,
) -> Comparison:
    """Return what changes from the old version to the new one.

    Args:
        old: What the old version's evaluation said.
        new: What the new version's evaluation said.
        model: Name of the model.
        numbers: Of the old version and of the new one.
        classes: That the old version and the new one know.
        split: Whose images count; None is `test` where both have images of it, otherwise `val`.

    Raises:
        NotComparable: No image was held out from both trainings.
    """
    chosen = [split] if split else SPLITS
    split = next((one for one in chosen if old[one].keys() & new[one].keys()), None)
    if split is None:
        raise NotComparable(f"no image of {' or '.join(chosen)} was held out from both versions")
    before, after = old[split], new[split]
    images = sorted(before.keys() & after.keys())
    right = {
        image: (before[image].label == image[1], after[image].label == image[1]) for image in images
    }
    named: dict[str, list[tuple[bool, bool]]] = {name: [] for name in sorted(classes[0])}
    for image in images:
        named.setdefault(image[1], []).append(right[image])
    per_class = [
        ClassChange.model_validate({**_change(pairs), "class": name})
        for name, pairs in named.items()
    ]
    broken = [image for image in images if right[image] == (True, False)]
    broken.sort(key=lambda image: -after[image].confidence)
    return Comparison(
        model=model,
        old=numbers[0],
        new=numbers[1],
        split=split,
        left_out=len(before.keys() ^ after.keys()),
        accuracy=Change.model_validate(_change(list(right.values()))),
        ece=CalibrationErrors(old=calibration_error(before, images),
                              new=calibration_error(after, images)),
        per_class=sorted(per_class, key=lambda one: math.inf if one.change is None else one.change),
        lost_classes=sorted(set(classes[0]) - set(classes[1])),
        broken=[_broken(image, after[image]) for image in broken[:MOST_BROKEN]],
    )  # fmt: skip


def _change(pairs: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    """Return two shares of the same images, and the interval of their difference.

    The interval is Wald's with half an image more in each cell of the table of pairs (Agresti and
    Min, Statistics in Medicine 24, 2005). It has a width where no answer differs, which a bootstrap
    has not, and its coverage holds for few images.
    """
    images = len(pairs)
    fixed = sum(new and not old for old, new in pairs)
    broken = sum(old and not new for old, new in pairs)
    counted = {"images": images, "fixed": fixed, "broken": broken}
    if not images:
        return {**counted, **dict.fromkeys(("old", "new", "change", "low", "high"))}
    total = images + 2
    middle = (fixed - broken) / total
    spread = math.sqrt(fixed + broken + 1 - (fixed - broken) ** 2 / total) / total
    return {
        **counted,
        "old": sum(old for old, _ in pairs) / images,
        "new": sum(new for _, new in pairs) / images,
        "change": (fixed - broken) / images,
        "low": max(-1.0, middle - QUANTILE * spread),
        "high": min(1.0, middle + QUANTILE * spread),
    }


def calibration_error(
    said: Mapping[tuple[str, str], Answered], images: Sequence[tuple[str, str]]
) -> float:
    """Return the expected calibration error of answers, 0..1 (arXiv:1706.04599), 15 equal bins."""
    gaps = [0.0] * BINS
    for image in images:
        _, label, confidence = said[image]
        gaps[min(int(confidence * BINS), BINS - 1)] += confidence - (label == image[1])
    return sum(abs(gap) for gap in gaps) / max(1, len(images))


def _broken(image: tuple[str, str], said: Answered) -> BrokenImage:
    return BrokenImage.model_validate(
        {
            "sha256": image[0],
            "path": said.path,
            "class": image[1],
            "predicted": said.label,
            "confidence": said.confidence,
        }
    )
