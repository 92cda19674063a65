"""Prove that an exported file answers as the service does, image by image."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.imaging.decode import OpenImage
from core.system.run_dir import RunDir
from models.data.dataset import ACCEPTED, StagedDataset
from models.export.forms import Answer, Answers
from models.inference.classifier import Classifier
from models.inference.rejection import Thresholds
from topwork.errors import ExportParityFailed

HELD_OUT = ("val", "test")
NAMED = 10  # Images on which the answers differ that the error names.
CLOSE = 1e-4  # Between a score and its threshold; rounding moves scores by about 1e-6.
REPORT = "parity.json"
MADE = ((1, 20), (20, 1), (64, 48), (48, 64), (333, 500), (1001, 257))  # Width and height.

Named = tuple[str, Image.Image]


def held_out(dataset: StagedDataset, classifier: Classifier) -> Iterator[Named]:
    """Yield the validation and test images, decoded as the predictor does."""
    for split in HELD_OUT:
        for sample in dataset.splits[split]:
            image = OpenImage(dataset.read(sample), ACCEPTED)
            preprocess = classifier.preprocess
            yield sample.path, image.rgb(preprocess.resize, preprocess.rendering)


def made() -> Iterator[Named]:
    """Yield made images of awkward sizes: their content is smooth, then noise."""
    for number, (width, height) in enumerate(MADE):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        yield f"smooth {width} x {height}", small.resize((width, height))
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        yield f"noise {width} x {height}", Image.fromarray(noise)


def compare(
    run: RunDir, classifier: Classifier, answers: Answers, images: Iterable[Named]
) -> dict[str, Any]:
    """Return how many images both answer, how many alike, and how far probabilities differ.

    Answers are alike in label and in why they are not relied on; in this they may differ where a
    score lies so near to its threshold that rounding decides.
    """
    usual = classifier.thresholds()
    count, differing, farthest = 0, [], 0.0
    for name, image in images:
        run.events.alive()
        answered = classifier.answer([classifier.preprocess.uint8(image)])
        [(served, similarity)] = answered.rows()
        answer = answers(image)
        expected = classifier.rank(served, 1, similarity, usual)
        count += 1
        if not _alike(expected, answer, usual):
            service = _words(expected["label"], expected["reason"])
            export = _words(answer.label, answer.reason)
            differing.append({"path": name, "service": service, "export": export})
        farthest = max(farthest, float(np.abs(answer.probabilities - served).max()))
    return {
        "images": count,
        "alike": count - len(differing),
        "differing": differing,
        "max_difference": farthest,
    }


def _alike(expected: dict[str, Any], answer: Answer, usual: Thresholds | None) -> bool:
    if expected["label"] != answer.label:
        return False
    near = usual is not None and usual.nearly(expected["similarity"], expected["confidence"], CLOSE)
    return near or not answer.judged or expected["reason"] == answer.reason


def _words(label: str, reason: str | None) -> str:
    return label if reason is None else f"{label} ({reason})"


def check(
    run: RunDir, classifier: Classifier, answers: Answers, dataset: StagedDataset | None
) -> dict[str, Any]:
    """Return the report on held-out and made images.

    Raises:
        ExportParityFailed: A label or a decision differs.
    """
    report = {
        "held_out": compare(
            run, classifier, answers, held_out(dataset, classifier) if dataset else ()
        ),
        "made": compare(run, classifier, answers, made()),
    }
    differing = [row for part in report.values() for row in part["differing"]]
    if differing:
        images = sum(part["images"] for part in report.values())
        named = ", ".join(row["path"] for row in differing[:NAMED])
        raise ExportParityFailed(
            f"The exported file gives another answer than the service for {len(differing)} of"
            f" {images} images: {named}."
        )
    return report


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write `parity.json`."""
    (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
