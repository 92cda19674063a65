from typing import Any

import pytest

from models.planning import strategy
from models.planning.strategy import Cost, decide

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


def test_few_validation_images_leave_it_at_the_head() -> None:
    assert strategy.auto_strategy("imagenet", 20)[0] == strategy.HEAD_THEN_FULL
    value, why = strategy.auto_strategy("imagenet", 19)
    assert value == "head"
    assert "19 validation images" in why
    assert strategy.auto_strategy("none", 1000)[0] == "full"


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
    value, why = strategy.batch_norm(mode, batch, images)
    assert (value, bool(why)) == (kept, True)
