"""Score a finished model on the images that did not train it, by the path that serves it."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.meter import Meter
from core.rundir import RunDir
from models import metrics
from models.data import ACCEPTED, Staged
from models.predict import Classifier

BATCH = 32
SPLITS = ("val", "test")
HEADLINES = ("accuracy", "log_loss", "ece")

Evaluation = dict[str, Any]


def evaluate(
    run: RunDir,
    staged: Staged,
    classifier: Classifier,
    folder: Path,
    *,
    threads: int,
    meter: Meter,
) -> Evaluation:
    """Write `evaluation.json` and `predictions.jsonl`; return the evaluation by split.

    The classifier is the predictor's own, and every image is decoded again from its original
    bytes. Scores from the training loop would be cheaper, but they come from cached pixels and
    perhaps from lower precision: then a user who sends a validation image to `POST /predict`
    could get another label than the report shows.
    """
    evaluation: Evaluation = {}
    before = 0
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as rows:
        for split in SPLITS:
            samples = staged.splits[split]
            if not samples:
                continue
            found: list[Tensor] = []
            for images in staged.stream(
                samples,
                lambda data: classifier.decode(data, ACCEPTED),
                batch=BATCH,
                threads=threads,
            ):
                run.check_stop()
                found.append(classifier.forward(list(images)))
                before += len(images)
                meter.at("evaluate", before)
            probabilities = torch.cat(found)
            labels = staged.labels(split)
            evaluation[split] = metrics.full(probabilities, labels, staged.classes)
            for sample, row in zip(samples, probabilities, strict=True):
                answer = classifier.rank(row, 1)
                line = {
                    "sha256": sample.sha256,
                    "path": sample.path,
                    "split": split,
                    "class": staged.classes[sample.label],
                    "label": answer["label"],
                    "confidence": round(answer["confidence"], 6),
                }
                rows.write(json.dumps(line, ensure_ascii=False) + "\n")
    text = json.dumps(evaluation, ensure_ascii=False, allow_nan=False)
    (folder / "evaluation.json").write_text(text, encoding="utf-8")
    return evaluation


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
