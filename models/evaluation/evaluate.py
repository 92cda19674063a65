"""Score a finished model on the images that did not train it, by the path that serves it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.system.failpoints import hit
from core.system.progress import Meter
from core.system.run_dir import RunDir
from models.compute.memory import within
from models.data.dataset import ACCEPTED, Sample, StagedDataset, labels_of
from models.evaluation import metrics
from models.evaluation.calibrate import Calibration
from models.evaluation.intervals import intervals
from models.inference.classifier import Classifier
from topwork.errors import IntegrityError

BATCH = 32
SPLITS = ("val", "test")
FOLDS = "folds"  # All images that trained, as heads answered that had not seen them.
HEADLINES = ("accuracy", "log_loss", "ece")
WORST = 50
CHECKED = 4  # Images on which the network and what its features told are compared.
CLOSE = 1e-3  # Between logits; folding and other batches move them by about 1e-5.


@dataclass(frozen=True)
class Evaluation:
    """What a network said about held-out images, and what that is worth.

    Attributes:
        logits: Float32 (n, classes) of each split that has images, by networks that had not seen
            them.
        calibration: What the logits are divided by before they are scored.
        scores: What `evaluation.json` says, by split.
        evidence: Logits and labels of the images that the calibration was fitted on; None where
            there were none.
        served: What the published network answers, where that has seen the images of `val`.
    """

    logits: Mapping[str, Tensor]
    calibration: Calibration
    scores: Mapping[str, Any]
    evidence: tuple[Tensor, Tensor] | None = None
    served: Mapping[str, Tensor] | None = None

    def write(self, folder: Path, dataset: StagedDataset) -> None:
        """Write `evaluation.json` and, with a line for each image, `predictions.jsonl`."""
        text = json.dumps(self.scores, ensure_ascii=False, allow_nan=False)
        (folder / "evaluation.json").write_text(text, encoding="utf-8")
        with (folder / "predictions.jsonl").open("w", encoding="utf-8") as rows:
            for split, logits in self.logits.items():
                judged = self.calibration.served(logits)
                served = self.calibration.served((self.served or self.logits)[split])
                answers = zip(dataset.splits[split], *judged.max(1), *served.max(1), strict=True)
                for sample, confidence, guess, now_confidence, now_guess in answers:
                    line = {
                        "sha256": sample.sha256,
                        "path": sample.path,
                        "split": split,
                        "class": dataset.classes[sample.label],
                        "label": dataset.classes[int(guess)],
                        "confidence": round(float(confidence), 6),
                        "served_label": dataset.classes[int(now_guess)],
                        "served_confidence": round(float(now_confidence), 6),
                    }
                    rows.write(json.dumps(line, ensure_ascii=False) + "\n")

    def headlines(self) -> dict[str, dict[str, float]]:
        """Return the few numbers of each split that belong into the card."""
        return {
            split: {
                **{name: scores[name] for name in HEADLINES},
                "top_k": scores["top_k"],
                "macro_f1": scores["macro"]["f1"],
                "images": scores["images"],
                "out_of_fold": scores["out_of_fold"],
            }
            for split, scores in self.scores.items()
        }

    def fitted(self) -> dict[str, Any] | None:
        """Return the card's `calibration`: the errors are those of the images it was fitted on."""
        if self.evidence is None or not self.calibration.stated:
            return None
        degrees, ceiling = self.calibration.temperature, self.calibration.ceiling
        before = metrics.trust(*self.evidence)
        after = metrics.trust(*self.evidence, degrees, ceiling)
        return {
            "temperature": degrees,
            "ceiling": ceiling,
            "ece_before": before["ece"],
            "ece_after": after["ece"],
            "images": self.calibration.images,
        }


def held_out_logits(
    run: RunDir,
    dataset: StagedDataset,
    classifier: Classifier,
    *,
    threads: int,
    meter: Meter,
    known: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return logits, float32 (n, classes), of every held-out split that has images.

    Images and classifier have the same classes in the same order. The classifier is the
    predictor's own, and every image is decoded again from its original bytes. Scores from the
    training loop would be cheaper, but they come from cached pixels and perhaps from lower
    precision: then a user who sends a validation image to `POST /predict` could get another label
    than the report shows.

    `known` holds the logits of splits that a frozen trunk's features, computed exactly as the
    predictor would, give already. They count when the classifier agrees on the first images.

    Raises:
        IntegrityError: The network gave no finite answer.
        OutOfMemory: There is none even for one image.
    """

    def ask(samples: list[Sample]) -> Tensor:
        answers = [torch.empty(0, len(classifier.labels))]
        for images in dataset.stream(
            samples,
            lambda data: classifier.decode(data, ACCEPTED),
            batch=BATCH,
            threads=threads,
        ):
            run.check_stop()
            answers.append(
                within(lambda some: torch.from_numpy(classifier.logits(some.numpy())), images)
            )
            meter.at("evaluate", before + sum(map(len, answers)))
        return torch.cat(answers)

    logits: dict[str, Tensor] = {}
    before = 0
    for split in SPLITS:
        samples = dataset.splits[split]
        if not samples:
            continue
        hit("evaluate.split")
        rows = (known or {}).get(split)
        if rows is None or not _close(ask(samples[:CHECKED]), rows[:CHECKED]):
            rows = ask(samples)
        if not rows.isfinite().all():
            raise IntegrityError(f"The model gives no finite answer for an image of {split}.")
        logits[split] = rows
        before += len(samples)
        meter.at("evaluate", before)
    return logits


def evaluate(
    dataset: StagedDataset,
    logits: Mapping[str, Tensor],
    calibration: Calibration,
    *,
    seed: int,
    evidence: tuple[Tensor, Tensor] | None = None,
    served: Mapping[str, Tensor] | None = None,
    folds: tuple[Sequence[Sample], Tensor] | None = None,
) -> Evaluation:
    """Score the logits of held-out splits, divided as `calibration` says; `seed` of intervals.

    Args:
        dataset: The images.
        logits: By networks that had not seen them.
        calibration: What divides them.
        seed: Of the intervals.
        evidence: What the calibration was fitted on, if anything.
        served: What the published network answers, where that has seen the images of `val`.
        folds: Images that trained, and the logits of heads that had not seen them.
    """

    def scored(samples: Sequence[Sample], rows: Tensor) -> dict[str, Any]:
        labels, classes = labels_of(samples), dataset.classes
        degrees, ceiling = calibration.temperature, calibration.ceiling
        answers = calibration.served(rows)
        scores = metrics.full(rows, labels, classes, temperature=degrees, ceiling=ceiling)
        scores["calibration"]["reason"] = calibration.reason
        scores["intervals"] = intervals(answers.argmax(1), labels, len(classes), seed=seed)
        lost = metrics.losses(rows, labels, degrees, ceiling)
        return {**scores, "errors": worst(samples, answers, lost, classes)}

    found = {split: scored(dataset.splits[split], rows) for split, rows in logits.items()}
    for split, scores in found.items():
        scores["out_of_fold"] = served is not None and split == "val"
    if folds is not None:
        found[FOLDS] = {**scored(*folds), "out_of_fold": True}
    return Evaluation(logits, calibration, found, evidence, served)


def _close(logits: Tensor, others: Tensor) -> bool:
    return torch.allclose(logits, others, rtol=CLOSE, atol=CLOSE)


def worst(
    samples: Sequence[Sample], served: Tensor, lost: Tensor, classes: list[str]
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
