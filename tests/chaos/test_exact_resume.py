"""T1 of the test plan: SIGKILL at any point, any number of times, ends with the same bits.

Each configuration is trained once undisturbed. Then runs of it are killed again and again: at every
named failpoint, at seeded random steps and at random times, with checkpoints a seeded number of
steps apart. A run that comes to its end in spite of it makes room for a new one, and no weight,
history or best epoch of any may differ by a bit.
"""

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.networks import zoo
from tests.chaos.conftest import Tell
from tests.chaos.killing import (
    REACHED,
    Trainers,
    killed,
    new_run,
    outcome,
    pictures,
    tear,
    trainers,
)
from tests.models.staging import events

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
EPOCHS, MOST_SECONDS = 4, 300.0
LONG = {"epochs": EPOCHS, "batch_size": 20, "schedule": "onecycle", "image_size": 32}
SHORT = {"epochs": 3, "batch_size": 20, "image_size": 32}
PRETRAINED = {"architecture": "mobilenet_v3_small", "weights": "imagenet"}
FEW = 8


@dataclass(frozen=True)
class Kind:
    """What is trained, in which stages, and how often it is killed at random."""

    config: dict[str, Any]
    stages: tuple[str, ...] = ("full",)
    steps: int = FEW
    times: int = 2


THOROUGH: dict[str, Any] = {"steps": 20, "times": 6}
KINDS = {
    "lenet": Kind({"architecture": "lenet", "augmentation": "strong"}, **THOROUGH),
    # With one moment for each weight: most of its time goes into checkpoints.
    "resnet18": Kind(
        {
            "architecture": "resnet18",
            "augmentation": "standard",
            "hyperparameters": LONG | {"optimizer": "sgd", "epochs": 3},
        },
        **THOROUGH,
    ),
    "dropout, average and mixed images": Kind(
        {
            "architecture": "mobilenet_v3_small",
            "augmentation": "strong",
            "ema": 0.9,
            "mixup": 0.2,
            "cutmix": 1.0,
            "hyperparameters": LONG | {"optimizer": "adamw", "learning_rate": 0.002},
        },
        **THOROUGH,
    ),
    "scaled gradients, drawn samples": Kind(
        {"architecture": "lenet", "precision": "fp16", "imbalance": "weighted_sampling"}
    ),
    "head on views": Kind(
        {
            **PRETRAINED,
            "strategy": "head",
            "augmentation": "light",
            "hyperparameters": SHORT | {"batch_size": 80},
        },
        ("head",),
    ),
    # With the loss to judge by, no head is so good that the next stage is left out.
    "head, then full": Kind(
        {**PRETRAINED, "selection_metric": "loss", "hyperparameters": SHORT}, ("head", "full")
    ),
    "gradual": Kind(
        {**PRETRAINED, "strategy": "gradual", "hyperparameters": SHORT}, ("head", "gradual")
    ),
}
# As much as others, and several times as long.
NIGHTLY = {"resnet18", "dropout, average and mixed images", "gradual"}


@dataclass
class Case:
    """A run that nothing interrupted, and how to start others like it, by the test's chance."""

    kind: Kind
    trainers: Trainers
    folder: Path
    data: Path
    config: dict[str, Any]
    wanted: dict[str, Any]
    visits: dict[str, int]
    seconds: float
    rng: random.Random = field(default_factory=random.Random)
    made: int = 0

    def new(self) -> Path:
        self.made += 1
        return new_run(self.folder / str(self.made), self.data, self.config)

    def spend(self, kills: Iterable[dict[str, Any]]) -> int:
        """Kill one run as often as it takes kills, then the next; return the number of kills."""
        run_dir, fresh, count = self.new(), True, 0
        for orders in kills:
            print(orders)  # noqa: T201 - what repeats a failure.
            while not killed(self.trainers.attempt(run_dir, **orders)):
                assert not fresh, "an undisturbed run never comes here"
                assert outcome(run_dir) == self.wanted
                run_dir, fresh = self.new(), True
            tear(run_dir, self.rng)
            fresh, count = False, count + 1
        self.trainers.finish(run_dir, save_every=self.rng.randint(1, 9))
        assert outcome(run_dir) == self.wanted
        return count

    def at_points(self) -> Iterator[dict[str, Any]]:
        """Each named point once, those of the cache first and those of the result last."""
        points = self.rng.sample(REACHED, len(REACHED))
        points.sort(key=lambda name: (not name.startswith("cache."), name.startswith("result.")))
        for point in points:
            assert self.visits[point], f"an undisturbed run never comes to {point}"
            visit = self.rng.randint(1, max(1, min(self.visits[point] // 4, 8)))
            yield {"failpoints": f"{point}=kill@{visit}"}

    def at_steps(self) -> Iterator[dict[str, Any]]:
        for _ in range(self.kind.steps):
            visit, every = self.rng.randint(1, 6), self.rng.randint(1, 5)
            yield {"failpoints": f"train.step=kill@{visit}", "save_every": every}

    def at_times(self) -> Iterator[dict[str, Any]]:
        for _ in range(self.kind.times):
            delay = self.seconds * self.rng.uniform(0.02, 0.4)
            yield {"kill_after": delay, "save_every": self.rng.randint(1, 9)}


@pytest.fixture(scope="module")
def warm() -> Iterator[Trainers]:
    with trainers() as ready:
        yield ready


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = pictures(tmp_path_factory.mktemp("pictures") / "data", each=16, side=32)
    torch.manual_seed(0)
    model = zoo.build("mobilenet_v3_small", 1000).train()
    with torch.no_grad():  # Statistics that fit the weights, as frozen ones are relied on.
        for _ in range(10):
            model(torch.randn(8, 3, 32, 32))
    save_file(model.state_dict(), folder.parent / "mobilenet_v3_small.safetensors")
    return folder


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.nightly] if name in NIGHTLY else []) for name in KINDS
    ],
)
def case(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    warm: Trainers,
    data: Path,
) -> Case:
    folder = tmp_path_factory.mktemp("runs")
    kind = KINDS[request.param]
    usual = {"weights": "none", "hyperparameters": LONG, "early_stopping": None}
    config = usual | {"precision": "fp32"} | kind.config
    run_dir = new_run(folder / "whole", data, config)
    began = time.monotonic()
    warm.finish(run_dir)
    seconds = time.monotonic() - began
    visits = json.loads((run_dir / "visits.json").read_text())
    assert tuple(dict.fromkeys(one["stage"] for one in events(run_dir, "epoch"))) == kind.stages
    return Case(kind, warm, folder, data, config, outcome(run_dir), visits, seconds)


@pytest.mark.parametrize("when", ["at_points", "at_steps", "at_times"])
def test_kills_change_nothing(
    case: Case,
    when: str,
    chance: random.Random,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    case.rng = chance
    began = time.monotonic()
    count = case.spend(getattr(case, when)())
    seconds, name = time.monotonic() - began, f"T1 {case.config['architecture']} {when}"
    tell(f"{name}: {count} kills, not a bit changed, {seconds:.0f} s")
    record(name, seconds, MOST_SECONDS)


def test_what_was_measured_before_a_kill_holds_after_it(
    warm: Trainers, data: Path, tmp_path: Path
) -> None:
    """Timings vary, and another precision or layout would mean other bits."""
    config = {"weights": "none", "hyperparameters": LONG, "early_stopping": None}
    run_dir = new_run(tmp_path / "run", data, config | {"architecture": "lenet"})
    for step in (2, 5, 3):
        assert killed(warm.attempt(run_dir, failpoints=f"train.step=kill@{step}", measured=True))
    warm.finish(run_dir, measured=True)
    outcome(run_dir)
    plans = [event["plan"] for event in events(run_dir, "plan")]
    choices = [json.dumps(plan["execution"]) for plan in plans if "execution" in plan]
    assert len(choices) >= 4
    assert len(set(choices)) == 1
