from typing import Any

import pytest

from models.planning import catalogue, strategy
from models.planning.plan import Plan, resolve
from models.planning.strategy import Cost, decide
from topwork.types.training import TrainConfig

BEST: dict[str, Any] = {
    "epoch": 3,
    "stage": "head",
    "metric": "val_accuracy",
    "val_accuracy": 0.94,
    "val_loss": 0.2,
}
LATER: dict[str, Any] = {**BEST, "epoch": 4, "stage": "full", "val_accuracy": 0.95, "val_loss": 0.1}


@pytest.mark.parametrize(
    ("best", "cost", "given", "epochs", "words"),
    [
        (BEST, Cost(5, 8, None), False, 8, "budget of 60 s"),
        (BEST, Cost(15, 8, None), False, 4, "about 15.0 s for an epoch"),
        (BEST, Cost(25, 8, None), False, 0, "too little for 3 epochs"),
        (BEST, Cost(400, 1000, None), False, 8, "5 times the head's 1000 s"),
        (BEST, Cost(20, 8, 60), False, 0, "80% of the time left"),
        (BEST, Cost(20, 8, 100), False, 4, "80% of the time left"),
        (BEST, Cost(20, 8, 100), True, 0, "too little for 8 epochs"),
        (BEST, Cost(20, 8, 0), False, 0, "too little"),
        ({**BEST, "val_accuracy": 1.0}, Cost(1, 1, None), False, 0, "nothing is left to gain"),
        ({**BEST, "metric": "val_loss", "val_loss": 1.2}, Cost(1, 1, None), False, 8, "1.200"),
    ],
)
def test_time_and_score_decide_what_follows_the_head(
    *, best: dict[str, Any], cost: Cost, given: bool, epochs: int, words: str
) -> None:
    taken, why = decide(best, 8, cost, given=given)
    assert taken == epochs
    assert words in why


def test_fewer_planned_epochs_than_usual_are_no_obstacle() -> None:
    assert decide(BEST, 1, Cost(20, 8, None), given=False)[0] == 1


def test_both_scores_are_told() -> None:
    told = strategy.compare(BEST, LATER, [BEST, LATER])
    assert "head: val_accuracy 0.9400, val_loss 0.2000" in told
    assert "full: val_accuracy 0.9500, val_loss 0.1000. The full stage is kept" in told
    assert "no epoch" in strategy.compare(BEST, BEST, [BEST])


def plan(**config: Any) -> Plan:
    """Plan for so many images of two classes, half each."""
    sizes = {"train": config.pop("train", 200), "val": config.pop("val", 100)}
    counts = {split: {"a": size // 2, "b": size - size // 2} for split, size in sizes.items()}
    asked = TrainConfig.model_validate({"architecture": "resnet18", **config})
    return resolve(asked, catalogue.get("resnet18"), {"classes": ["a", "b"], "counts": counts})


def test_few_validation_images_leave_it_at_the_head() -> None:
    assert plan(val=20).strategy == strategy.HEAD_THEN_FULL
    few = plan(val=19)
    assert few.strategy == "head"
    assert "19 validation images" in few.reasons["strategy"]
    assert plan(val=1000, weights="none").strategy == "full"


@pytest.mark.parametrize(
    ("mode", "batch", "images", "kept"),
    [
        ("scratch", 4, 100, "train"),
        ("head", 32, 9000, "frozen"),
        ("tune", 32, 100, "train"),
        ("tune", 8, 9000, "frozen"),
        ("refine", 32, 244, "frozen"),
        ("refine", 32, 5000, "train"),
        ("gradual", 32, 4999, "frozen"),
    ],
)
def test_few_images_leave_the_statistics_alone(
    mode: str, batch: int, images: int, kept: str
) -> None:
    asked = {"scratch": "full", "tune": "full", "refine": "auto"}.get(mode, mode)
    weights = "none" if mode == "scratch" else "imagenet"
    numbers = {"batch_size": batch}
    *_, last = plan(train=images, strategy=asked, weights=weights, hyperparameters=numbers).stages()
    assert last.mode == mode
    assert last.batch_norm == kept
    assert last.reasons["batch_norm"]
