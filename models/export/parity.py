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
from models.export.forms import Answers
from models.inference.classifier import Classifier
from topwork.errors import ExportParityFailed

HELD_OUT = ("val", "test")
NAMED = 10  # Images on which the labels differ that the error names.
REPORT = "parity.json"
MADE = ((1, 20), (20, 1), (64, 48), (48, 64), (333, 500), (1001, 257))  # Width and height.

Named = tuple[str, Image.Image]


def held_out(dataset: StagedDataset, classifier: Classifier) -> Iterator[Named]:
    """Yield the validation and test images, decoded as the predictor does."""
    for split in HELD_OUT:
        for sample in dataset.splits[split]:
            image = OpenImage(dataset.read(sample), ACCEPTED)
            yield sample.path, image.rgb(shrink_to=classifier.preprocess.resize)


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
    """Return how many images both answer, how many alike, and how far probabilities differ."""
    count, differing, farthest = 0, [], 0.0
    for name, image in images:
        run.events.alive()
        served = classifier.forward([classifier.preprocess.uint8(image)])[0]
        label, probabilities = answers(image)
        expected = classifier.labels[int(served.argmax())].name
        count += 1
        if label != expected:
            differing.append({"path": name, "service": expected, "export": label})
        farthest = max(farthest, float(np.abs(probabilities - served).max()))
    return {
        "images": count,
        "alike": count - len(differing),
        "differing": differing,
        "max_difference": farthest,
    }


def check(
    run: RunDir, classifier: Classifier, answers: Answers, dataset: StagedDataset | None
) -> dict[str, Any]:
    """Return the report on held-out and made images.

    Raises:
        ExportParityFailed: A label differs.
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
            f"The exported file gives another label than the service for {len(differing)} of"
            f" {images} images: {named}."
        )
    return report


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write `parity.json`."""
    (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
