"""The strategy: which layers to train, in which stages, for how long; pure, torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from models.planning import conditions as when
from models.planning.rules import ELSE, Condition, Rule
from models.planning.views import FIT

HEAD_THEN_FULL = "head, then full"
FEWEST_TO_COMPARE = 20  # Validation images; with fewer, chance decides which model is better.
# Seconds of fine-tuning after the head where no limit was given, or so many times what the head
# took, if that is more: nobody should wait long without having said so.
DEFAULT_BUDGET = 60.0
BUDGET_FACTOR = 5.0
LIMIT_SHARE = 0.8  # Of the time left that may be planned; estimates err.
LEAST_EPOCHS = 3  # Fewer than that over all layers rarely beat a good head.
NO_HEAD = Condition(lambda draft: draft.strategy == "full")
DRAWN = Condition(lambda draft: "val" in draft.drawn)
HARDLY_VALIDATED = Condition(lambda draft: draft.images.val < FEWEST_TO_COMPARE)

# Decided once for all stages.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "weights": (
        Rule(
            when.UNPUBLISHED,
            "none",
            "nobody publishes pretrained weights for {draft.architecture.name}",
        ),
        Rule(ELSE, "imagenet", "features learned on ImageNet carry over to most photographs"),
    ),
    "strategy": (
        Rule(when.RANDOM, "full", "random weights have to be trained in every layer"),
        Rule(
            HARDLY_VALIDATED,
            "head",
            "a new head on a frozen pretrained trunk trains in one pass over the images;"
            " {draft.images.val} validation images cannot tell whether training more is better",
        ),
        Rule(
            ELSE,
            HEAD_THEN_FULL,
            "the head first, which takes one pass over the images; from there every layer, if its"
            " score and the time allow; the better on validation is kept",
        ),
    ),
    "fit": FIT,
    "refit": (
        Rule(NO_HEAD, value=False),
        Rule(
            when.UNVALIDATED,
            value=False,
            reason="there are no validation images to learn from",
            binding=True,
        ),
        Rule(
            DRAWN,
            value=True,
            reason="the {draft.images.val} validation images were drawn from those to train on:"
            " where the head is kept, it learns from all, and what it is said to reach is what"
            " heads reached that had not seen the image",
        ),
        Rule(
            ELSE,
            value=False,
            reason="the validation images were named as such: they judge and never train",
        ),
    ),
}


class Stage(NamedTuple):
    """One part of the training: its name and the mode it starts from."""

    name: str
    mode: str


def stages(strategy: str, weights: str) -> tuple[Stage, ...]:
    """Return the stages of a strategy on these weights, in their order."""
    head = Stage("head", "head")
    if strategy == "head":
        return (head,)
    if strategy == "gradual":
        return head, Stage("gradual", "gradual")
    if strategy == HEAD_THEN_FULL:
        return head, Stage("full", "refine")
    return (Stage("full", "scratch" if weights == "none" else "tune"),)


class Cost(NamedTuple):
    """What was measured by the end of the head, in seconds."""

    epoch: float  # Of one epoch over all layers, estimated from a timed pass.
    spent: float  # So far.
    left: float | None  # Of the limit; None without one.


def decide(best: Mapping[str, Any], epochs: int, cost: Cost, *, given: bool) -> tuple[int, str]:
    """Return for how many epochs to train every layer after the head, 0 for not at all, and why.

    Args:
        best: The head's best epoch.
        epochs: Planned; fewer are taken where the time is short, unless they were `given`.
        cost: Measured.
        given: Whether the user named the epochs.
    """
    metric = best["metric"]
    if not metric.endswith("loss") and best[metric] >= 1.0:
        return 0, f"the head's {metric} is {best[metric]:.3f}: nothing is left to gain"
    if cost.left is None:
        budget = max(DEFAULT_BUDGET, BUDGET_FACTOR * cost.spent)
        source = f"without limits.max_minutes, the longer of {DEFAULT_BUDGET:.0f} s and"
        source += f" {BUDGET_FACTOR:.0f} times the head's {cost.spent:.0f} s"
    else:
        budget = LIMIT_SHARE * cost.left
        source = f"{LIMIT_SHARE:.0%} of the time left"
    fits = min(epochs, int(budget / max(cost.epoch, 1e-9)))
    words = f"about {cost.epoch:.1f} s for an epoch over all layers, a budget of {budget:.0f} s"
    needed = epochs if given else min(epochs, LEAST_EPOCHS)
    if fits < needed:
        return 0, f"{words} ({source}): too little for {needed} epochs"
    score = f"the head's {metric} of {best[metric]:.3f} leaves something to gain"
    return fits, f"{score}; {words} ({source})"


def score(record: Mapping[str, Any], metric: str) -> tuple[float, float]:
    """Return what the best epoch has most of; the smaller loss decides between equals.

    On a few hundred images many epochs reach the same accuracy.
    """
    loss = record["val_loss" if "val_loss" in record else "train_loss"]
    return (-record[metric] if metric.endswith("loss") else record[metric], -loss)


def compare(
    head: Mapping[str, Any], kept: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> str:
    """Return in words which stage is kept and why, with the scores of both."""
    metric = head["metric"]
    loss = "val_loss" if "val_loss" in head else "train_loss"
    later = [record for record in history if record["stage"] != head["stage"]]
    if not later:
        return "The head is kept: no epoch over more layers was finished."
    best = kept
    if kept["stage"] == head["stage"]:
        best = max(later, key=lambda record: score(record, metric))
    scores = "; ".join(
        f"{record['stage']}: {metric} {record[metric]:.4f}, {loss} {record[loss]:.4f}"
        for record in (head, best)
    )
    words = "within a standard error the loss decides"
    return f"{scores}. The {kept['stage']} stage is kept; {words}."
