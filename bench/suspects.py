"""Find labels that were changed: python -m bench.suspects [--seeds N].

It compares with cleanlab, which `pip install cleanlab` adds.

5, 10 and 20 % of the labels of hymenoptera's training images, and of 2000 of CIFAR-10's, become
another class by chance. The product's cross-validation answers for each image unseen, as in a job
that trains a head on MobileNetV2's real weights, and confident learning ranks the labels by that.
Average precision is of the whole ranking: ours, and those of cleanlab on the same probabilities
(its three scores); precision and recall are of the images that either flags. Then the head is
trained as the product does, from the changed labels, without the flagged images, with these
relabelled as the most probable class, and from the true labels, and tested on images whose labels
are true: the 153 of hymenoptera's validation, 1000 of CIFAR-10's test. Means and standard
deviations of seeds.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from json import dumps
from pathlib import Path

import numpy as np
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor

from bench.few_shot import SHARED, Subject, subject
from models.data.features import FeatureExtractor, collect
from models.data.sources import Features
from models.evaluation.calibrate import calibrate
from models.evaluation.confident_learning import LabelErrors, label_errors
from models.inference.calibration import probabilities
from models.training import head_stage, linear_head
from models.training.linear_head import Answers

RATES = (0.05, 0.1, 0.2)
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
MOST = {"hymenoptera": {}, "cifar10": {"train": 200, "test": 100}}  # Images of a class by folder.
COLUMNS = (
    "rate", "AP ours", *(f"AP {score}" for score in SCORES), "precision", "cleanlab's", "recall",
    "cleanlab's", "as changed", "without", "relabelled", "true",
)  # fmt: skip


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rank", action="store_true", help="only rank: train nothing again")
    parser.add_argument("--folder", type=Path, help="keeps images and features")
    parser.add_argument("--sets", nargs="+", choices=MOST, default=[*MOST])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made)
        for name in asked.sets:
            with subject(folder, ingested(folder, name), "mobilenet_v2") as it:
                fit = it.fit
                extractor = FeatureExtractor.fastest(fit.network, fit.execution)
                test = collect(fit.cache, fit.dataset, "test", extractor, fit.meter)
                trained, tested = len(it.images.labels), len(test.labels)
                print(f"{name}: {trained} images, {tested} of test, {asked.seeds} seeds")
                print(" | ".join(COLUMNS))
                for rate in RATES:
                    rows = [
                        measured(it, test, rate, seed, retrain=not asked.rank)
                        for seed in range(asked.seeds)
                    ]
                    told = zip(np.mean(rows, 0), np.std(rows, 0, ddof=1), strict=True)
                    cells = (f"{mean:.3f} +-{spread:.3f}" for mean, spread in told)
                    print(f"{rate:4.0%} | " + " | ".join(cells), flush=True)


def ingested(folder: Path, name: str) -> Path:
    """Ingest the first images of each class once; hymenoptera's validation images are the test."""
    run = folder / f"{name}-suspects"
    if not (run / "result").is_dir():
        run.mkdir(parents=True, exist_ok=True)
        counts: Counter[str] = Counter()
        with (
            zipfile.ZipFile(SHARED / "data" / f"{name}.zip") as archive,
            zipfile.ZipFile(run / "some.zip", "w") as chosen,
        ):
            for path in sorted(archive.namelist()):
                place = path.rpartition("/")[0].replace("val/", "test/")
                if path.endswith("/") or counts[place] == MOST[name].get(place.split("/")[0]):
                    continue
                counts[place] += 1
                chosen.writestr(f"{place}/{Path(path).name}", archive.read(path))
        request = {"archive": str(run / "some.zip"), "split": {"val": 0.0, "seed": 42}}
        (run / "request.json").write_text(dumps(request))
        subprocess.run([sys.executable, "-m", "core.ingest", str(run)], check=True)
    return run / "result"


def changed(labels: Tensor, rate: float, seed: int) -> Tensor:
    """Return the labels with this share of them another class by chance."""
    generator = np.random.default_rng([round(100 * rate), seed])
    chosen = generator.permutation(len(labels))[: round(rate * len(labels))]
    classes = int(labels.max()) + 1
    new = labels.clone()
    new[chosen] = (new[chosen] + torch.from_numpy(generator.integers(1, classes, len(chosen)))) % (
        classes
    )
    return new


def measured(it: Subject, test: Features, rate: float, seed: int, *, retrain: bool) -> list[float]:
    """Return a row of the table without its rate."""
    true = it.images.labels
    noisy = changed(true, rate, seed)
    said, head = trained(it, Features(it.images.values, noisy))
    assert isinstance(said, Answers)
    given = noisy[said.images]
    wrong = (given != true[said.images]).numpy()
    degrees = calibrate(said.logits, given).temperature
    shares = probabilities(said.logits, degrees, 1.0)
    found = label_errors(shares, given)
    arrays = given.numpy(), shares.numpy()
    theirs = [1 - get_label_quality_scores(*arrays, method=score) for score in SCORES]
    ranked = [found.scores.numpy(), *theirs]
    flags = found.flagged.numpy(), find_label_issues(*arrays)
    caught = [int((flag & wrong).sum()) for flag in flags]
    without = torch.ones(len(noisy), dtype=torch.bool)
    without[said.images[found.flagged]] = False
    sets = [
        Features(it.images.values[without], noisy[without]),
        Features(it.images.values, relabelled(noisy, said, found)),
        Features(it.images.values, true),
    ]
    return [
        *(float(average_precision_score(wrong, scores)) for scores in ranked),
        *(count / max(1, int(flag.sum())) for count, flag in zip(caught, flags, strict=True)),
        *(count / int(wrong.sum()) for count in caught),
        accuracy(head, test),
        *(accuracy(trained(it, some)[1], test) for some in sets if retrain),
    ]


def relabelled(noisy: Tensor, said: Answers, found: LabelErrors) -> Tensor:
    """Return the labels with those that are flagged as the most probable class."""
    new = noisy.clone()
    new[said.images[found.flagged]] = found.likely[found.flagged]
    return new


Head = tuple[NDArray[np.float64], NDArray[np.float64]]


def trained(it: Subject, images: Features) -> tuple[Answers | str, Head]:
    """Train the head as the product does; return what was said out of fold, and its weights."""
    plan, fit = it.plan(images.labels), it.fit
    said = head_stage.cross_validated(fit, plan, images)
    penalty = said.penalty if isinstance(said, Answers) else linear_head.USUAL
    head_stage.put_best(fit, plan, images, penalty)
    layer = fit.network.model.get_submodule(fit.network.heads.main)
    weight, bias = (value.detach().double().numpy().copy() for value in layer.parameters())
    return said, (weight, bias)


def accuracy(head: Head, test: Features) -> float:
    """Return the share of right answers."""
    weight, bias = head
    logits = test.values.double().numpy() @ weight.T + bias
    return float((logits.argmax(1) == test.labels.numpy()).mean())


if __name__ == "__main__":
    main()
