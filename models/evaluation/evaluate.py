"""Score a finished model on the images that did not train it, by the path that serves it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.system.failpoints import hit
from core.system.progress import Meter
from core.system.run_dir import RunDir
from models.compute.memory import within
from models.data.dataset import ACCEPTED, Sample, Staged
from models.evaluation import intervals, metrics
from models.evaluation.calibrate import Calibration
from models.inference.classifier import Classifier
from topwork.errors import IntegrityError

BATCH = 32
SPLITS = ("val", "test")
HEADLINES = ("accuracy", "log_loss", "ece")
WORST = 50
CHECKED = 4  # Images on which the network and what its features told are compared.
CLOSE = 1e-3  # Between logits; folding and other batches move them by about 1e-5.

Evaluation = dict[str, Any]


def answer(
    run: RunDir,
    staged: Staged,
    classifier: Classifier,
    *,
    threads: int,
    meter: Meter,
    told: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return logits, float32 (n, classes), of every held-out split that has images.

    The classifier is the predictor's own, and every image is decoded again from its original
    bytes. Scores from the training loop would be cheaper, but they come from cached pixels and
    perhaps from lower precision: then a user who sends a validation image to `POST /predict`
    could get another label than the report shows.

    `told` holds the logits of splits that a frozen trunk's features, computed exactly as the
    predictor would, give already. They count when the classifier agrees on the first images.

    Raises:
        IntegrityError: The network gave no finite answer.
        OutOfMemory: There is none even for one image.
    """

    def ask(samples: list[Sample]) -> Tensor:
        found = [torch.empty(0, len(staged.classes))]
        for images in staged.stream(
            samples,
            lambda data: classifier.decode(data, ACCEPTED),
            batch=BATCH,
            threads=threads,
        ):
            run.check_stop()
            found.append(within(lambda some: classifier.logits(list(some)), images))
            meter.at("evaluate", before + sum(map(len, found)))
        return torch.cat(found)

    answers: dict[str, Tensor] = {}
    before = 0
    for split in SPLITS:
        samples = staged.splits[split]
        if not samples:
            continue
        hit("evaluate.split")
        known = told.get(split)
        if known is not None:
            sure = torch.allclose(ask(samples[:CHECKED]), known[:CHECKED], rtol=CLOSE, atol=CLOSE)
            known = known if sure else None
        answers[split] = ask(samples) if known is None else known
        if not answers[split].isfinite().all():
            raise IntegrityError(f"The model gives no finite answer for an image of {split}.")
        before += len(samples)
        meter.at("evaluate", before)
    return answers


def evaluate(
    staged: Staged,
    classifier: Classifier,
    answers: Mapping[str, Tensor],
    calibration: Calibration,
    folder: Path,
    *,
    seed: int,
) -> Evaluation:
    """Write `evaluation.json` and `predictions.jsonl`; return the evaluation by split."""
    evaluation: Evaluation = {}
    degrees = calibration.temperature
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as rows:
        for split, logits in answers.items():
            samples, labels = staged.splits[split], staged.labels(split)
            served = metrics.probabilities(logits, degrees)
            scores = metrics.full(logits, labels, staged.classes, temperature=degrees)
            scores["calibration"]["reason"] = calibration.reason
            guesses = served.argmax(1)
            scores["intervals"] = intervals.bootstrap(
                guesses, labels, len(staged.classes), seed=seed
            )
            lost = metrics.losses(logits, labels, degrees)
            scores["errors"] = worst(samples, served, lost, staged.classes)
            evaluation[split] = scores
            for sample, row in zip(samples, served, strict=True):
                told = classifier.rank(row, 1)
                line = {
                    "sha256": sample.sha256,
                    "path": sample.path,
                    "split": split,
                    "class": staged.classes[sample.label],
                    "label": told["label"],
                    "confidence": round(told["confidence"], 6),
                }
                rows.write(json.dumps(line, ensure_ascii=False) + "\n")
    text = json.dumps(evaluation, ensure_ascii=False, allow_nan=False)
    (folder / "evaluation.json").write_text(text, encoding="utf-8")
    return evaluation


def worst(
    samples: list[Sample], served: Tensor, lost: Tensor, classes: list[str]
) -> list[dict[str, Any]]:
    """Return the wrong answers with the greatest loss, at most 50, the worst first.

    Wrong labels in the data gather here: a model that has learned a class is sure of it.
    """
    confidence, guesses = served.max(1)
    wrong = [
        number for number, sample in enumerate(samples) if int(guesses[number]) != sample.label
    ]
    wrong.sort(key=lambda number: -float(lost[number]))
    return [
        {
            "sha256": samples[number].sha256,
            "path": samples[number].path,
            "true": classes[samples[number].label],
            "predicted": classes[int(guesses[number])],
            "confidence": round(float(confidence[number]), 6),
            "loss": round(float(lost[number]), 6),
        }
        for number in wrong[:WORST]
    ]


def headlines(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return the few numbers of each split that belong into the card."""
    return {
        split: {
            **{name: scores[name] for name in HEADLINES},
            "top_k": scores["top_k"],
            "macro_f1": scores["macro"]["f1"],
            "images": scores["images"],
        }
        for split, scores in evaluation.items()
    }


def calibration_of(calibration: Calibration, evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the card's `calibration`: the errors are those of the images it was fitted on."""
    if not calibration.fitted:
        return None
    found = evaluation["val"]["calibration"]
    return {
        "temperature": calibration.temperature,
        "ece_before": found["before"]["ece"],
        "ece_after": found["after"]["ece"],
        "images": calibration.images,
    }
