"""T31: every network of the catalogue through a whole life, with random weights.

Training over every layer, of a new head, and of one block after the other: each is killed by
SIGKILL before its last step, goes on from its checkpoint and makes an artefact, which then answers
as the trainer said that it would. Images are of the least size that the network takes. `make chaos`
does one network of each family, block by block, which comes through all the same code, `.ci/run`
the cheapest of these;
`make test-slow` does all. A table at the end of the run lists them.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from core.imaging.decode import DEFAULT_LIMITS
from core.system.machine import cores
from models.data.dataset import StagedDataset
from models.inference import artefact
from models.inference.classifier import Classifier
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.planning import catalogue
from models.planning.catalogue import Architecture
from tests.chaos.killing import Trainers, killed, new_run, noise, outcome, trainers
from tests.models.networks.families import FAMILIES, gigaops_of, side_of
from tests.models.staging import events, stage

ATTEMPT_SECONDS = 1500.0
CLASSES = ["class0", "class1"]
CALM = 0.3  # A norm's weight: a layer of a trained network adds little to what passes by.
CONTRASTS, SHIFTS = (0.25, 1.0, 2.0), (-1.0, 0.0, 1.0)
STEPS, BATCH = 2, 4
HUGE_GIGAOPS = 500.0  # From here on one image is a batch.
LARGE = 200e6  # Parameters from which no average of the weights is kept beside them.
NEVER = 10**9
STAGES = {"full": ("full",), "head": ("head",), "gradual": ("head", "gradual")}
GIBIBYTE = 2**30
# Bytes that a trainer takes beside its weights, copies of the weights, and bytes of what a step
# keeps for each 10**9 multiply-adds of its batch: bounds of what the table shows.
LEAST_BYTES, COPIES, BYTES_OF_A_GIGAOP = 1.0 * GIBIBYTE, 7.0, 5e6
COPIES_ON_DISK = 10.0


def batch_of(facts: Architecture) -> int:
    return 1 if gigaops_of(facts) > HUGE_GIGAOPS else BATCH


def pictures(folder: Path, batch: int) -> Path:
    """Stage noise whose colour is the class: two batches to train on, an image each to validate."""
    rng = np.random.default_rng(1)
    sizes = {"train": batch * STEPS // len(CLASSES), "val": 1}
    images = [
        (split, name, noise(rng, label, side=32))
        for split, size in sizes.items()
        for label, name in enumerate(CLASSES)
        for _ in range(size)
    ]
    return stage(folder, images)


def settled(facts: Architecture, data: Path, folder: Path) -> Path:
    """Publish a random network whose running statistics fit the images, as pretrained ones do."""
    torch.manual_seed(0)
    model = zoo.build(facts.name, len(CLASSES)).eval()  # No layer left out while it settles.
    preprocess = Preprocess.for_architecture(facts.name).at(side_of(facts))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        staged = StagedDataset(data)
        images = [preprocess.read(staged.read(one)) for one in staged.splits["train"]]
        staged.close()
        for norm in norms:
            norm.train().momentum = None  # The mean over all batches, here of one.
            norm.weight.data.fill_(CALM)
        plain = preprocess.normalise(torch.from_numpy(np.stack(images)))
        # What hardly varies in a few images would be blown up in the views of training.
        varied = [a * plain + b for a in CONTRASTS for b in SHIFTS]
        with torch.no_grad():
            model(torch.cat(varied))
    folder.mkdir()
    card = {
        "architecture": facts.name,
        "classes": CLASSES,
        "head": {"layers": [facts.head], "auxiliary": [one.layer for one in facts.auxiliary]},
        "preprocess": preprocess.to_dict(),
    }
    artefact.write(folder, model, card)
    return folder


def ordered(folder: Path, data: Path, facts: Architecture, strategy: str, parent: Path) -> Path:
    """Make a RUN_DIR for a job of two steps in each stage."""
    config = {
        "architecture": facts.name,
        "weights": "model:parent",
        "strategy": strategy,
        "precision": "fp32",
        "ema": "off" if facts.parameters > LARGE else "auto",
        "early_stopping": None,
        "hyperparameters": {
            "epochs": 1,
            "batch_size": batch_of(facts),
            "optimizer": "sgd",
            "learning_rate": 1e-5,
        },
    }
    run_dir = new_run(folder, data, config)
    request = json.loads((run_dir / "request.json").read_text())
    request["init_from"] = str(parent)
    (run_dir / "request.json").write_text(json.dumps(request))
    return run_dir


def survive_a_kill(warm: Trainers, run_dir: Path, strategy: str) -> None:
    last = STEPS * len(STAGES[strategy])
    assert killed(warm.attempt(run_dir, failpoints=f"train.step=kill@{last}"))
    warm.finish(run_dir, save_every=NEVER)
    visits = json.loads((run_dir / "visits.json").read_text())
    assert visits["train.step"] == 1, "it did not go on from its last checkpoint"
    assert tuple(event["stage"] for event in events(run_dir, "epoch")) == STAGES[strategy]
    outcome(run_dir)


def assert_answers(folder: Path, data: Path) -> None:
    """Compare the artefact's answers with those that the trainer's evaluation noted."""
    classifier = Classifier.from_artefact(folder)
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    told = {row["sha256"]: row for row in map(json.loads, lines)}
    staged = StagedDataset(data)
    held_out = staged.splits["val"]
    assert {one.sha256 for one in held_out} == told.keys()
    for sample in held_out:
        image = classifier.decode(staged.read(sample), DEFAULT_LIMITS)
        answer = classifier.rank(classifier.forward([image])[0], top_k=1)
        assert answer["label"] == told[sample.sha256]["label"]
        assert answer["confidence"] == pytest.approx(told[sample.sha256]["confidence"], abs=1e-4)
    staged.close()


def lacking(facts: Architecture, folder: Path) -> str:
    """Return in words what of memory or disk is too small here, or nothing."""
    weights = 4.0 * facts.parameters
    step = BYTES_OF_A_GIGAOP * gigaops_of(facts) * batch_of(facts)
    needed = {
        "memory": LEAST_BYTES + COPIES * weights + step,
        "disk": GIBIBYTE + COPIES_ON_DISK * weights,
    }
    free = {
        "memory": psutil.virtual_memory().available,
        "disk": shutil.disk_usage(folder).free,
    }
    short = [name for name in needed if free[name] < needed[name]]
    return ", ".join(
        f"{name}: {needed[name] / GIBIBYTE:.1f} GiB needed, {free[name] / GIBIBYTE:.1f} GiB free"
        for name in short
    )


@pytest.fixture(scope="module")
def warm() -> Iterator[Trainers]:
    with trainers(threads=cores(), timeout=ATTEMPT_SECONDS) as ready:
        yield ready


IN_CI = 8  # The cheapest, MNASNet among them; `make chaos` has them all.


@pytest.mark.timeout(4 * ATTEMPT_SECONDS)
@pytest.mark.parametrize(
    ("name", "strategies"),
    [
        *(
            pytest.param(
                name,
                ("gradual",),
                marks=[pytest.mark.chaos, *([] if number < IN_CI else [pytest.mark.nightly])],
                id=f"family-{name}",
            )
            for number, name in enumerate(FAMILIES)
        ),
        *(
            pytest.param(name, tuple(STAGES), marks=pytest.mark.slow, id=name)
            for name in catalogue.names()
        ),
    ],
)
def test_a_network_survives_and_answers(
    warm: Trainers,
    name: str,
    strategies: tuple[str, ...],
    tmp_path: Path,
    row: Callable[..., None],
) -> None:
    facts = catalogue.get(name)
    if short := lacking(facts, tmp_path):
        row(name, facts.parameters, 0.0, 0, f"skipped: {short}")
        pytest.skip(short)
    began, peak, result = time.monotonic(), 0, "failed"
    try:
        data = pictures(tmp_path / "data", batch_of(facts))
        parent = settled(facts, data, tmp_path / "parent")
        for strategy in strategies:
            result = f"failed: {strategy}"
            run_dir = ordered(tmp_path / strategy, data, facts, strategy, parent)
            survive_a_kill(warm, run_dir, strategy)
            peak = max(peak, int((run_dir / "peak").read_text()))
            assert_answers(run_dir / "result", data)
            shutil.rmtree(run_dir)
        result = "ok"
    finally:
        row(name, facts.parameters, time.monotonic() - began, peak, result)
        shutil.rmtree(tmp_path)
