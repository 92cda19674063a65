"""Compare heads on few images with scikit-learn's: python bench/few_shot.py [--draws N].

Draws of 2 to 50 images a class of hymenoptera and of CIFAR-10 train the product's head, as a job
fits the one it publishes, and `LogisticRegressionCV` on the same features (those of SqueezeNet,
whose head is a convolution, averaged over space). Both see every image of a draw: the product
chooses and calibrates by images held out of it. 100 other images of each class are the test. The
features are computed once and kept under `--folder`, so further draws are cheap. `--one SHOTS
--draws 200` looks for the draw whose log loss is worse than a guess; `--penalty P` fits ours at
that penalty, chosen by nothing.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from torch import Tensor

from core.system.run_dir import RunDir
from models.data.dataset import StagedDataset
from models.data.features import FeatureExtractor, collect
from models.data.sources import Features
from models.evaluation import metrics
from models.evaluation.calibrate import calibrate
from models.inference.calibration import probabilities
from models.networks.head import split
from models.networks.loading import load_tensors
from models.planning import catalogue
from models.planning.plan import Plan, resolve
from models.planning.request import TrainRequest
from models.training import head_stage, linear_head
from models.training.fit import Fit
from models.training.linear_head import Answers
from models.training.session import Session

SHARED = Path(__file__).resolve().parents[2] / "shared"
NETWORKS = ("mobilenet_v2", "squeezenet1_1")
SETS = ("hymenoptera", "cifar10")
SHOTS = (2, 5, 10, 20, 50)
POOL, TEST = 160, 100  # Images of a class that draws are made from, and that a draw is tested on.
VAL = 0.2
FLOOR = 1e-15  # Of a probability, as scikit-learn's log loss has it.


@dataclass(frozen=True)
class Subject:
    """A fit that is ready for its head, and the features of all images."""

    fit: Fit
    images: Features

    def plan(self, labels: Tensor) -> Plan:
        """Return the plan of a job with these images, a fifth of which are validation images."""
        names, network = self.fit.dataset.classes, self.fit.network
        sizes = torch.bincount(labels, minlength=len(names)).tolist()
        counts = {"train": dict(zip(names, sizes, strict=True)), "val": {names[0]: 1}}
        summary = {"classes": names, "counts": counts, "drawn": ["val"]}
        config = self.fit.request.config
        return resolve(config, catalogue.get(network.architecture.name), summary)


@contextmanager
def subject(folder: Path, images: Path, architecture: str) -> Iterator[Subject]:
    """Open a session on ingested images, in the folder that keeps their features."""
    config = {"architecture": architecture, "strategy": "head"}
    with tempfile.TemporaryDirectory() as place:
        request = {
            "config": config,
            "dataset": str(images),
            "weights_dir": str(SHARED / "weights"),
            "offline": True,
            "cache_dir": str(folder / "cache"),
        }
        (Path(place) / "request.json").write_text(json.dumps(request))
        run = RunDir(Path(place))
        body = TrainRequest.model_validate(request)
        dataset = StagedDataset(body.dataset)
        with Session.open(run, body, dataset) as session:
            fit = session.prepare(session.plan)
            extractor = FeatureExtractor.fastest(fit.network, fit.execution)
            found = collect(fit.cache, dataset, "train", extractor, fit.meter)
            yield Subject(replace(fit, execution=fit.execution.for_head()), found)
        dataset.close()
        run.events.close()


def pool(folder: Path, name: str) -> Path:
    """Ingest the first images of each class once."""
    run = folder / name
    if not (run / "result").is_dir():
        run.mkdir(parents=True, exist_ok=True)
        counts: dict[str, int] = {}
        with (
            zipfile.ZipFile(SHARED / "data" / f"{name}.zip") as archive,
            zipfile.ZipFile(run / "pool.zip", "w") as chosen,
        ):
            for path in sorted(archive.namelist()):
                label = path.split("/")[-2] if not path.endswith("/") else ""
                if label and counts.get(label, 0) < POOL:
                    counts[label] = counts.get(label, 0) + 1
                    chosen.writestr(
                        f"{label}/{counts[label]}{Path(path).suffix}", archive.read(path)
                    )
        request = {"archive": str(run / "pool.zip"), "split": {"val": 0.0, "seed": 42}}
        (run / "request.json").write_text(json.dumps(request))
        subprocess.run([sys.executable, "-m", "core.ingest", str(run)], check=True)
    return run / "result"


def published(
    it: Subject, chosen: Tensor, name: str, penalty: float | None
) -> tuple[Tensor, float, float]:
    """Train on some of the images; return the logits of all, the temperature and the ceiling."""
    some = Features(it.images.values[chosen], it.images.labels[chosen])
    plan, fit = it.plan(some.labels), replace(it.fit, checkpoint=it.fit.checkpoint / name)
    _, head = split(fit.network.model, fit.network.heads.main)
    if plan.optimizer == head_stage.CONVEX:
        said = head_stage.cross_validated(fit, plan, some, penalty)
        spoken: tuple[Tensor | None, Tensor] = None, some.labels
        if isinstance(said, Answers):
            spoken = said.logits, some.labels[said.images]
            penalty = said.penalty
        head_stage.put_best(fit, plan, some, penalty or linear_head.USUAL)
    else:
        spoken = judged(fit, plan, some)
        head_stage.train_on(replace(fit, checkpoint=fit.checkpoint / "refit"), plan, some, None)
    found = calibrate(*spoken)
    with torch.inference_mode():
        logits = head.eval()(it.images.values)
    return logits, found.temperature, found.ceiling


def judged(fit: Fit, plan: Plan, some: Features) -> tuple[Tensor, Tensor]:
    """Train the head without a fifth of each class; return what it says about that, and labels."""
    _, head = split(fit.network.model, fit.network.heads.main)
    layer = fit.network.model.get_submodule(fit.network.heads.main)
    start = {name: value.clone() for name, value in layer.state_dict().items()}
    held = torch.zeros(len(some.labels), dtype=torch.bool)
    for label in some.labels.unique():
        own = (some.labels == label).nonzero()[:, 0]
        held[own[: round(VAL * len(own))]] = True
    rest = Features(some.values[~held], some.labels[~held])
    head_stage.train_on(fit, plan, rest, None)
    with torch.inference_mode():
        logits = head.eval()(some.values[held])
    load_tensors(layer, start)
    return logits, some.labels[held]


def probe(images: Features, chosen: Tensor, shots: int) -> Tensor:
    """Return the probabilities (n, classes) of logistic regression on the same images."""
    maps = images.values.reshape(*images.values.shape[:2], -1)  # One place where there are no maps.
    flat = maps.mean(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = LogisticRegressionCV(cv=min(5, shots), max_iter=300)
        fitted.fit(flat[chosen].numpy(), images.labels[chosen].numpy())
    return torch.from_numpy(fitted.predict_proba(flat.numpy())).double().clamp_min(FLOOR)


def scores(shares: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """Return accuracy, log loss and calibration error of probabilities."""
    right = shares.argmax(1) == labels
    loss = -shares.gather(1, labels[:, None]).log().mean()
    bins = metrics.reliability(shares.max(1).values, right)
    return float(right.double().mean()), float(loss), metrics.calibration_error(bins)


def drawn(labels: Tensor, shots: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of the images that train, and of those that test."""
    generator = np.random.default_rng([shots, seed])
    train, test = [], []
    for label in range(int(labels.max()) + 1):
        own = generator.permutation(np.flatnonzero(labels.numpy() == label))
        train += own[:shots].tolist()
        test += own[shots : shots + TEST].tolist()
    return torch.tensor(sorted(train)), torch.tensor(sorted(test))


def compare(
    it: Subject, shots: int, draws: int, *, probed: bool = True, penalty: float | None = None
) -> str:
    """Return a line: means over the draws of either side, and our draws worse than a guess."""
    own, others = [], []
    for seed in range(draws):
        train, test = drawn(it.images.labels, shots, seed)
        labels = it.images.labels[test]
        logits, temperature, ceiling = published(it, train, f"{shots}-{seed}", penalty)
        own.append(scores(probabilities(logits[test], temperature, ceiling), labels))
        if probed:
            others.append(scores(probe(it.images, train, shots)[test], labels))
    worst = sum(loss > math.log(len(it.fit.dataset.classes)) for _, loss, _ in own)
    line = f"{shots:4}  {written(own)}"
    return f"{line}  {written(others)}  {worst}/{draws}" if probed else f"{line}  {worst}/{draws}"


def written(some: list[tuple[float, float, float]]) -> str:
    """Return mean accuracy, log loss and calibration error."""
    return " ".join(f"{value:.4f}" for value in np.mean(some, 0))


def main() -> None:
    """Print a table for each set and network: ours, scikit-learn's, draws worse than a guess."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--one", type=int, help="only so many images a class, and only ours")
    parser.add_argument("--penalty", type=float, choices=linear_head.PENALTIES)
    parser.add_argument("--folder", type=Path, help="keeps pools and features")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made)
        for name in asked.sets:
            for architecture in asked.networks:
                print(f"{name}, {architecture}, {asked.draws} draws: accuracy, log loss, ECE")
                with subject(folder, pool(folder, name), architecture) as it:
                    for shots in [asked.one] if asked.one else SHOTS:
                        probed = not asked.one
                        line = compare(it, shots, asked.draws, probed=probed, penalty=asked.penalty)
                        print(line, flush=True)


if __name__ == "__main__":
    main()
