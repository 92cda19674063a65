"""T1 of the test plan: SIGKILL at any point, any number of times, ends with the same bits.

Each network is trained once undisturbed. Then it is killed at every named failpoint, at seeded
random steps and at random times, with checkpoints a seeded number of steps apart, until twenty
kills are spent on steps; weights, history and best epoch must not differ by a bit. CHAOS_SEED=n
repeats the points of an earlier run.
"""

import json
import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.networks import zoo
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

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
KILLS = 20
TIMED = 6
EPOCHS = 4
LONG = {"epochs": EPOCHS, "batch_size": 40, "schedule": "onecycle"}
CONFIGS: dict[str, dict[str, Any]] = {
    "lenet": {"architecture": "lenet", "augmentation": "strong"},
    "resnet18": {
        "architecture": "resnet18",
        "augmentation": "standard",
        "hyperparameters": LONG | {"image_size": 64},
    },
    "frozen trunk": {
        "architecture": "mobilenet_v3_small",
        "weights": "imagenet",
        "strategy": "head",
        "augmentation": "light",
        "hyperparameters": {"epochs": EPOCHS, "batch_size": 160, "image_size": 32},
    },
    "dropout": {
        "architecture": "mobilenet_v3_small",
        "augmentation": "strong",
        "hyperparameters": LONG | {"image_size": 32, "optimizer": "adamw", "learning_rate": 0.002},
    },
}


@dataclass
class Case:
    """A run that nothing interrupted, and how to start others like it."""

    trainers: Trainers
    folder: Path
    data: Path
    config: dict[str, Any]
    wanted: dict[str, Any]
    visits: dict[str, int]
    rng: random.Random
    made: int = 0

    def new(self) -> Path:
        self.made += 1
        return new_run(self.folder / str(self.made), self.data, self.config)

    def finish(self, run_dir: Path) -> None:
        self.trainers.finish(run_dir, save_every=self.rng.randint(1, 9))
        assert outcome(run_dir) == self.wanted


@pytest.fixture(scope="module")
def warm() -> Iterator[Trainers]:
    with trainers() as ready:
        yield ready


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = pictures(tmp_path_factory.mktemp("pictures") / "data", each=32)
    torch.manual_seed(0)
    weights = zoo.build("mobilenet_v3_small", 1000).state_dict()
    save_file(weights, folder.parent / "mobilenet_v3_small.safetensors")
    return folder


@pytest.fixture(scope="module", params=list(CONFIGS))
def case(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    warm: Trainers,
    data: Path,
) -> Case:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(2**32))
    print(f"{request.param}: seed {seed}")  # noqa: T201 - what repeats a failure.
    folder = tmp_path_factory.mktemp("runs")
    config = {"weights": "none", "hyperparameters": LONG, "early_stopping": None}
    config |= {"precision": "fp32"}
    config |= CONFIGS[request.param]
    run_dir = new_run(folder / "whole", data, config)
    warm.finish(run_dir)
    visits = json.loads((run_dir / "visits.json").read_text())
    return Case(warm, folder, data, config, outcome(run_dir), visits, random.Random(seed))  # noqa: S311 - repeatable.


@pytest.mark.parametrize("point", REACHED)
def test_a_kill_at_a_named_point_changes_nothing(case: Case, point: str) -> None:
    run_dir = case.new()
    assert case.visits[point], "an undisturbed run never comes here"
    most = min(case.visits[point], 8) if point.startswith("events.") else case.visits[point]
    order = f"{point}=kill@{case.rng.randint(1, most)}"
    print(order)  # noqa: T201 - as above.
    assert killed(case.trainers.attempt(run_dir, failpoints=order))
    tear(run_dir, case.rng)
    case.finish(run_dir)


def test_twenty_kills_at_random_steps_change_nothing(case: Case) -> None:
    left = KILLS
    while left:
        run_dir = case.new()
        while left:
            order, every = f"train.step=kill@{case.rng.randint(1, 12)}", case.rng.randint(1, 5)
            print(order, every)  # noqa: T201 - as above.
            if not killed(case.trainers.attempt(run_dir, failpoints=order, save_every=every)):
                break
            tear(run_dir, case.rng)
            left -= 1
        case.finish(run_dir)


def test_kills_at_random_times_change_nothing(case: Case) -> None:
    left = TIMED
    while left:
        run_dir = case.new()
        while left:
            delay, every = case.rng.uniform(0.05, 1.5), case.rng.randint(1, 9)
            ended = case.trainers.attempt(run_dir, save_every=every, kill_after=delay)
            print(delay, every, ended)  # noqa: T201 - as above.
            if not killed(ended):
                break
            tear(run_dir, case.rng)
            left -= 1
        case.finish(run_dir)


def test_what_was_measured_before_a_kill_holds_after_it(
    warm: Trainers, data: Path, tmp_path: Path
) -> None:
    """Timings vary, and another precision or layout would mean other bits."""
    config = CONFIGS["lenet"] | {"weights": "none", "hyperparameters": LONG, "early_stopping": None}
    run_dir = new_run(tmp_path / "run", data, config)
    for step in (2, 5, 3):
        assert killed(warm.attempt(run_dir, failpoints=f"train.step=kill@{step}", measured=True))
    warm.finish(run_dir, measured=True)
    outcome(run_dir)
    plans = [event["plan"] for event in events(run_dir, "plan")]
    choices = [json.dumps(plan["execution"]) for plan in plans if "execution" in plan]
    assert len(choices) >= 4
    assert len(set(choices)) == 1
