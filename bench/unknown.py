"""Measure abstention: python bench/unknown.py [--develop] [--drawn N] [--architectures NAME...].

A model of ants and bees is trained on `train/` of hymenoptera.zip by `models.train`; its `val/` is
the test split. Unknown are imagenet200 without insects and CIFAR-10's test images, which lie beside
the archive; where they do not, they are left out. Weights are those of TOPWORK_WEIGHTS_DIR.
`--drawn N` trains N models more, whose test images are as many of all, by chance, and prints the
share that each accepts: the thresholds promise it for images like those of training.
`--develop` prints instead what the method and the number of neighbours were chosen by: heads on
three random classes of CIFAR-10's training images, whose unknowns are the other seven.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench import plain
from core.imaging.decode import DEFAULT_LIMITS
from models.data.dataset import ACCEPTED, StagedDataset
from models.evaluation.abstention import by_confidence
from models.evaluation.intervals import wilson
from models.inference.classifier import Classifier, Crops
from models.inference.rejection import Rejection, unit
from models.networks import tensorfile
from topwork.kinds import AbstainReason

SHARED = plain.SHARED.parent
INSECTS = range(300, 327)  # Classes of ImageNet: beetles to butterflies.
BATCH = 32
CIFAR_IMAGES = 1000
SHOTS = (4, 8, 16, 32, 64)
NEIGHBOURS = (1, 2, 3, 5, 10)
DRAWS = 10
SPLITS = 100


def auroc(known: Tensor, unknown: Tensor) -> tuple[float, float, float]:
    """Return the share of pairs in which the known image scores higher, and its 95 % interval.

    The error is DeLong's (Biometrics 44, 1988): of the two means of placements.
    """
    above = (known[:, None] > unknown).double() + 0.5 * (known[:, None] == unknown).double()
    share = float(above.mean())
    variance = float(above.mean(1).var() / len(known) + above.mean(0).var() / len(unknown))
    reach = 1.96 * math.sqrt(variance)
    return share, share - reach, min(1.0, share + reach)


def members(archive: Path, prefix: str = "") -> list[str]:
    """Return the names of the images in an archive."""
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if name.lower().endswith((".jpg", ".jpeg"))]
    return [name for name in names if name.startswith(prefix)]


def batches(classifier: Classifier, archive: Path, names: Sequence[str]) -> Iterator[list[Crops]]:
    """Yield the decoded images in groups."""
    with zipfile.ZipFile(archive) as file:
        for start in range(0, len(names), BATCH):
            data = [file.read(name) for name in names[start : start + BATCH]]
            yield [classifier.decode(image, DEFAULT_LIMITS) for image in data]


def made(classifier: Classifier) -> dict[str, list[Crops]]:
    """Return images of noise and of one colour."""
    side, generator = classifier.preprocess.crop, np.random.default_rng(0)
    noise = generator.integers(0, 256, (50, 3, side, side), dtype=np.uint8)
    blank = generator.integers(0, 256, (50, 3, 1, 1), dtype=np.uint8)
    return {"noise": list(noise), "one colour": list(np.tile(blank, (1, 1, side, side)))}


def develop(architecture: str) -> None:
    """Print AUROC by images a class and neighbours: of the mean cosine, and of the last one."""
    weights = Path(os.environ["TOPWORK_WEIGHTS_DIR"]) / f"{architecture}.safetensors"
    classifier = Classifier.imagenet(architecture, tensorfile.read(weights).tensors)
    archive, by_class = SHARED / "cifar10.zip", defaultdict(list)
    for name in members(archive, "train/"):
        by_class[name.split("/")[1]].append(name)
    rng, most = np.random.default_rng(0), max(SHOTS)
    features = {}
    for label, names in sorted(by_class.items()):
        chosen = [names[number] for number in rng.permutation(len(names))[: 2 * most]]
        parts = [classifier.outputs(some).features for some in batches(classifier, archive, chosen)]
        features[label] = torch.from_numpy(unit(np.concatenate(parts)))
    names = sorted(features)
    print(f"{architecture}: mean AUROC of {DRAWS} draws of three classes")
    print("images", *(f"mean, last k={k:2}" for k in NEIGHBOURS))
    for shots in SHOTS:
        scores = defaultdict(list)
        for _ in range(DRAWS):
            chosen = list(rng.choice(names, 3, replace=False))
            bank = torch.cat([features[name][:shots] for name in chosen])
            known = torch.cat([features[name][most:] for name in chosen])
            others = torch.cat([features[name][most:] for name in names if name not in chosen])
            for k in NEIGHBOURS:
                near = [(some @ bank.T).topk(k).values.double() for some in (known, others)]
                by = [[one.mean(1) for one in near], [one[:, -1] for one in near]]
                scores[k].append([auroc(*pair)[0] for pair in by])
        means = [np.mean(scores[k], 0) for k in NEIGHBOURS]
        print(f"{shots:6}", *(f"{mean:.4f} / {last:.4f}" for mean, last in means))


def trained(folder: Path, architecture: str, strategy: str, seed: int | None = None) -> Path:
    """Train on ants and bees, tested on `val/` or as many drawn images; return the artefact."""
    archive, names = folder / "images.zip", members(plain.SHARED)
    tested = {name for name in names if name.split("/")[-3] == "val"}
    if seed is not None:
        drawn = np.random.default_rng(seed).permutation(len(names))[: len(tested)]
        tested = {names[number] for number in drawn}
    with zipfile.ZipFile(plain.SHARED) as old, zipfile.ZipFile(archive, "w") as new:
        for name in names:
            split = "test" if name in tested else "train"
            new.writestr("/".join([split, *name.split("/")[-2:]]), old.read(name))
    weights = os.environ.get("TOPWORK_WEIGHTS_DIR", str(folder))
    published = (Path(weights) / f"{architecture}.safetensors").is_file()
    requests = {
        "core.ingest": {"archive": str(archive)},
        "models.train": {
            "config": {
                "architecture": architecture,
                "strategy": strategy,
                "weights": "imagenet" if published else "none",
            },
            "dataset": str(folder / "core.ingest" / "result"),
            "weights_dir": weights,
            "offline": True,
        },
    }
    for module, request in requests.items():
        run = folder / module
        run.mkdir()
        (run / "request.json").write_text(json.dumps(request))
        subprocess.run([sys.executable, "-m", module, str(run)], check=True)
    return run / "result"


def judged(classifier: Classifier, groups: Iterator[list[Crops]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return similarity, confidence and guess of each image."""
    answers = [classifier.answer(some) for some in groups]
    shares = torch.from_numpy(np.concatenate([one.probabilities for one in answers]))
    sure, guess = shares.max(1)
    found = [one.similarities for one in answers if one.similarities is not None]
    similarity = torch.from_numpy(np.concatenate(found))
    assert len(similarity) == len(sure)
    return similarity, sure, guess


def shares(similarity: Tensor, sure: Tensor, rejection: Rejection) -> tuple[float, float]:
    """Return the shares that are accepted, and that are unknown."""
    usual = rejection.usual
    pairs = zip(similarity.tolist(), sure.tolist(), strict=True)
    reasons = [usual.reason(*pair) for pair in pairs]
    return reasons.count(None) / len(reasons), reasons.count(AbstainReason.UNKNOWN) / len(reasons)


def stated_coverage(similarity: Tensor, sure: Tensor, wanted: float) -> tuple[float, int]:
    """Return the mean coverage of splits of images into halves, and how many fall as stated.

    A half fixes the thresholds, the other one measures; it is as stated where the wanted coverage
    lies within the binomial interval of the measured half's own.
    """
    generator, found, inside = torch.Generator().manual_seed(0), [], 0
    for _ in range(SPLITS):
        fixed, measured = torch.randperm(len(sure), generator=generator).tensor_split(2)
        scores = similarity[fixed].numpy(), sure[fixed].numpy()
        half = Rejection(np.ones((1, 1), np.float32), 1, *scores).thresholds(wanted)
        accepted = (similarity[measured] >= half.similarity) & (sure[measured] >= half.confidence)
        count = int(accepted.sum())
        bounds = wilson(count, len(measured))
        found.append(count / len(measured))
        inside += bounds["low"] <= wanted <= bounds["high"]
    return float(np.mean(found)), inside


def report(architecture: str, strategy: str) -> None:
    """Train, ask about known and unknown images, and print what the answers are worth."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = trained(folder, architecture, strategy)
        card = json.loads((result / "card.json").read_text())
        print(f"\n{architecture}, {strategy}: {plain.machine()}")
        print(f"card: {json.dumps(card['rejection'])}")
        classifier = Classifier.from_artefact(result)
        rejection = classifier.rejection
        if isinstance(rejection, str):
            return
        with closing(StagedDataset(folder / "core.ingest" / "result")) as staged:
            samples = staged.splits["test"]
            crops = staged.stream(
                samples, lambda data: classifier.decode(data, ACCEPTED), batch=BATCH, threads=1
            )
            known = judged(classifier, (list(some.numpy()) for some in crops))
            right = known[2] == staged.labels("test")
        curve = {
            round(row["coverage"], 2): row["accuracy"] for row in by_confidence(known[1], right)
        }
        accepted, unknown = shares(*known[:2], rejection)
        interval = wilson(round(accepted * len(samples)), len(samples))
        print(f"known: {len(samples)}, accuracy {float(right.double().mean()):.3f}")
        print(f"accuracy by share of the surest: {curve}")
        print(f"accepted {accepted:.3f} ({interval['low']:.3f} to {interval['high']:.3f})")
        for wanted in (0.8, 0.9, 0.95):
            mean, inside = stated_coverage(*known[:2], wanted)
            print(f"stated {wanted}: mean of {SPLITS} splits {mean:.3f}, as stated {inside}")
        for label, groups in others(classifier).items():
            scores = judged(classifier, groups)
            by = [auroc(known[side], scores[side]) for side in (0, 1)]
            told = ", ".join(f"{area:.3f} ({low:.3f} to {high:.3f})" for area, low, high in by)
            accepted, unknown = shares(*scores[:2], rejection)
            words = f"accepted {accepted:.3f}, unknown {unknown:.3f}"
            print(f"{label}: AUROC by similarity, by confidence {told}; {words}")


def report_drawn(architecture: str, strategy: str, draws: int) -> None:
    """Train on other images each time, and print which share of the rest is accepted."""
    accepted = []
    for seed in range(draws):
        with tempfile.TemporaryDirectory() as name:
            result = trained(Path(name), architecture, strategy, seed)
            told = json.loads((result / "evaluation.json").read_text())["test"]["abstention"]
        accepted.append(told["coverage"])
        print(
            f"draw {seed}: accepted {told['coverage']:.3f}, {told['coverage_interval']}", flush=True
        )
    print(f"{architecture}: mean of {draws} draws {np.mean(accepted):.3f}")


def others(classifier: Classifier) -> dict[str, Iterator[list[Crops]]]:
    """Return the unknown images that there are."""
    found = {label: iter([images]) for label, images in made(classifier).items()}
    archives = {name: SHARED / f"{name}.zip" for name in ("imagenet200", "cifar10")}
    if archives["imagenet200"].is_file():
        names = [
            name
            for name in members(archives["imagenet200"])
            if int(Path(name).name.split("_")[0]) not in INSECTS
        ]
        found["imagenet200 without insects"] = batches(classifier, archives["imagenet200"], names)
    if archives["cifar10"].is_file():
        names = members(archives["cifar10"], "test/")
        chosen = np.random.default_rng(0).choice(names, CIFAR_IMAGES, replace=False).tolist()
        found["CIFAR-10"] = batches(classifier, archives["cifar10"], chosen)
    return found


def main() -> None:
    """Print one report for each architecture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--develop", action="store_true")
    parser.add_argument("--architectures", nargs="+", default=["mobilenet_v2"])
    parser.add_argument("--strategy", default="head")
    parser.add_argument("--drawn", type=int, default=0)
    asked = parser.parse_args()
    if not plain.SHARED.is_file():
        sys.exit(f"{plain.SHARED} is not there")
    for architecture in asked.architectures:
        if asked.develop:
            develop(architecture)
        else:
            report(architecture, asked.strategy)
            if asked.drawn:
                report_drawn(architecture, asked.strategy, asked.drawn)


if __name__ == "__main__":
    main()
