"""Score a finished model on the images that did not train it, by the path that serves it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.system.failpoints import hit
from core.system.progress import Meter
from core.system.run_dir import RunDir
from models.compute.memory import within
from models.data.dataset import ACCEPTED, Sample, StagedDataset, labels_of
from models.evaluation import metrics
from models.evaluation.abstention import Abstention
from models.evaluation.calibrate import Calibration
from models.evaluation.intervals import intervals
from models.evaluation.suspects import Judged, Suspects, find
from models.inference.classifier import Classifier
from topwork.errors import IntegrityError
from topwork.kinds import Decision

BATCH = 32
SPLITS = ("val", "test")
FOLDS = "folds"  # Images that trained, as heads answered that had not seen them.
HEADLINES = ("accuracy", "log_loss", "ece")
WORST = 50
CHECKED = 4  # Images on which the network and what its features told are compared.
CLOSE = 1e-3  # Between logits; folding and other batches move them by about 1e-5.


class Said(NamedTuple):
    """What was said about a split: logits, float32 (n, classes), and features, float32 (n, d)."""

    logits: Tensor
    features: Tensor


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
        outputs: What the published network answers and by which features, by split; it may have
            seen the images of `val`. None where `logits` are its own.
        abstention: Which answers are not relied on.
        suspects: Images that somebody should look at.
    """

    logits: Mapping[str, Tensor]
    calibration: Calibration
    scores: Mapping[str, Any]
    evidence: tuple[Tensor, Tensor] | None = None
    outputs: Mapping[str, Said] | None = None
    abstention: Abstention = field(default_factory=Abstention)
    suspects: Suspects = field(default_factory=Suspects)

    def write(self, folder: Path, dataset: StagedDataset) -> None:
        """Write `evaluation.json`, `suspects.jsonl` and, for each image, `predictions.jsonl`."""
        self.suspects.write(folder)
        text = json.dumps(self.scores, ensure_ascii=False, allow_nan=False)
        (folder / "evaluation.json").write_text(text, encoding="utf-8")
        with (folder / "predictions.jsonl").open("w", encoding="utf-8") as rows:
            for split, logits in self.logits.items():
                judged = self.calibration.served(logits)
                now = self.outputs[split].logits if self.outputs else logits
                served = self.calibration.served(now)
                reasons = zip(
                    self.abstention.reasons(split, judged, unseen=True),
                    self.abstention.reasons(split, served),
                    strict=True,
                )
                lines = zip(
                    dataset.splits[split], *judged.max(1), *served.max(1), reasons, strict=True
                )
                for sample, confidence, guess, now_confidence, now_guess, (reason, why) in lines:
                    line = {
                        "sha256": sample.sha256,
                        "path": sample.path,
                        "split": split,
                        "class": dataset.classes[sample.label],
                        "label": dataset.classes[int(guess)],
                        "confidence": round(float(confidence), 6),
                        "decision": Decision.of(reason),
                        "reason": reason,
                        "served_label": dataset.classes[int(now_guess)],
                        "served_confidence": round(float(now_confidence), 6),
                        "served_decision": Decision.of(why),
                        "served_reason": why,
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


def held_out_outputs(
    run: RunDir,
    dataset: StagedDataset,
    classifier: Classifier,
    *,
    threads: int,
    meter: Meter,
    known: Mapping[str, Said] | None = None,
) -> dict[str, Said]:
    """Return logits and features of every held-out split that has images.

    Images and classifier have the same classes in the same order. The classifier is the
    predictor's own, and every image is decoded again from its original bytes. Scores from the
    training loop would be cheaper, but they come from cached pixels and perhaps from lower
    precision: then a user who sends a validation image to `POST /predict` could get another label
    than the report shows.

    `known` holds those of splits that a frozen trunk's features, computed exactly as the
    predictor would, give already. They count when the classifier agrees on the first images.

    Raises:
        IntegrityError: The network gave no finite answer.
        OutOfMemory: There is none even for one image.
    """

    def ask(samples: Sequence[Sample]) -> Said:
        def done(images: int) -> None:
            run.check_stop()
            meter.at("evaluate", before + images)

        return answers(dataset, samples, classifier, threads=threads, done=done)

    outputs: dict[str, Said] = {}
    before = 0
    for split in SPLITS:
        samples = dataset.splits[split]
        if not samples:
            continue
        hit("evaluate.split")
        rows = (known or {}).get(split)
        if rows is None or not _close(ask(samples[:CHECKED]).logits, rows.logits[:CHECKED]):
            rows = ask(samples)
        if not rows.logits.isfinite().all():
            raise IntegrityError(f"The model gives no finite answer for an image of {split}.")
        outputs[split] = rows
        before += len(samples)
        meter.at("evaluate", before)
    return outputs


def answers(
    dataset: StagedDataset,
    samples: Sequence[Sample],
    classifier: Classifier,
    *,
    threads: int,
    done: Callable[[int], None],
) -> Said:
    """Return what a classifier says about images; `done` is told how many are, batch by batch.

    Raises:
        OutOfMemory: There is none even for one image.
    """

    def both(images: Tensor) -> Tensor:
        found = classifier.outputs(images.numpy())
        return torch.cat([torch.from_numpy(values) for values in found], 1)

    rows: list[Tensor] = []
    for images in dataset.stream(
        samples, lambda data: classifier.decode(data, ACCEPTED), batch=BATCH, threads=threads
    ):
        rows.append(within(both, images))
        done(sum(map(len, rows)))
    return Said(*torch.cat(rows).tensor_split([len(classifier.labels)], dim=1))


def evaluate(
    dataset: StagedDataset,
    logits: Mapping[str, Tensor],
    calibration: Calibration,
    *,
    seed: int,
    evidence: tuple[Tensor, Tensor] | None = None,
    outputs: Mapping[str, Said] | None = None,
    folds: tuple[Sequence[Sample], Tensor] | None = None,
    abstention: Abstention | None = None,
) -> Evaluation:
    """Score the logits of held-out splits, divided as `calibration` says; `seed` of intervals.

    Args:
        dataset: The images.
        logits: By networks that had not seen them.
        calibration: What divides them.
        seed: Of the intervals.
        evidence: What the calibration was fitted on, if anything.
        outputs: What the published network answers; None where `logits` are its own.
        folds: Images that trained, and the logits of heads that had not seen them.
        abstention: Which answers are not relied on.
    """
    abstention = abstention or Abstention()

    def scored(split: str, samples: Sequence[Sample], rows: Tensor) -> dict[str, Any]:
        labels, classes = labels_of(samples), dataset.classes
        degrees, ceiling = calibration.temperature, calibration.ceiling
        served = calibration.served(rows)
        scores = metrics.full(rows, labels, classes, temperature=degrees, ceiling=ceiling)
        scores["calibration"]["reason"] = calibration.reason
        scores["intervals"] = intervals(served.argmax(1), labels, len(classes), seed=seed)
        lost = metrics.losses(rows, labels, degrees, ceiling)
        scores["abstention"] = abstention.scores(split, served, labels)
        return {**scores, "errors": worst(samples, served, lost, classes)}

    found = {split: scored(split, dataset.splits[split], rows) for split, rows in logits.items()}
    for split, scores in found.items():
        scores["out_of_fold"] = outputs is not None and not torch.equal(
            logits[split], outputs[split].logits
        )
    if folds is not None:
        found[FOLDS] = {**scored(FOLDS, *folds), "out_of_fold": True}
    suspects = suspected(dataset, logits, calibration, folds, abstention)
    return Evaluation(logits, calibration, found, evidence, outputs, abstention, suspects)


def suspected(
    dataset: StagedDataset,
    logits: Mapping[str, Tensor],
    calibration: Calibration,
    folds: tuple[Sequence[Sample], Tensor] | None,
    abstention: Abstention,
) -> Suspects:
    """Return the suspects among all images that somebody answered for unseen.

    The folds hold the images of `val` too.
    """
    rows: dict[str, tuple[Sequence[Sample], Tensor]]
    rows = {split: (dataset.splits[split], some) for split, some in logits.items()}
    if folds is not None:
        rows = {FOLDS: folds, **{split: one for split, one in rows.items() if split != "val"}}
    parts = [
        Judged(
            samples,
            some,
            abstention.reasons(split, calibration.served(some), unseen=True),
            {**abstention.similarities, **abstention.unseen}.get(split),
        )
        for split, (samples, some) in rows.items()
    ]
    return find(parts, dataset.classes, calibration.temperature)


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
