"""The order of stages: a head, every layer, or one after the other."""

import shutil
import time
from dataclasses import replace

import torch

from models.data import augment
from models.data.dataset import StagedDataset, batch_count
from models.inference.eager import forward
from models.planning import strategy
from models.planning.augmentation import VIEWS
from models.planning.plan import Plan
from models.planning.rules import GIVEN
from models.training import head_stage, layers_stage, stage_result
from models.training.fit import Fit, Trained
from models.training.resume import Progress
from models.training.stage_result import StageResult
from topwork.errors import TimeLimitReached

TIMED = 8  # Images passed forward to estimate what training costs.
TRAINING_COST = 4.0  # Of a training step in forward passes; measured 3.9 and 4.4 (performance.md).


def train(fit: Fit, plan: Plan) -> Trained:
    """Train stage by stage, and fit the head again on all images where it is kept."""
    layer = fit.network.model.get_submodule(fit.network.heads.main)
    start = {name: value.clone() for name, value in layer.state_dict().items()}
    trained = validated(fit, plan)
    if not (plan.refit and trained.of_head) or fit.group.lead(lambda: fit.deadline.reached):
        return trained
    if fit.group.rank == 0:  # The finished head has a file of its own.
        shutil.rmtree(fit.checkpoint / plan.stage, ignore_errors=True)
    return head_stage.refit(trained, start)


def validated(fit: Fit, plan: Plan) -> Trained:
    """Train stage by stage and leave the best weights of all of them in the network."""
    if plan.mode != "head":
        return Trained(fit, *layers_stage.train(fit, plan))
    result = trained_head(fit, plan)
    plan = result.continued(plan)
    if plan.then is None:
        return Trained(fit, plan, result.progress)
    later = fit.measured(plan.then)
    fit.announce(replace(plan, then=later.execution.noted(plan.then)))
    try:
        then, progress = layers_stage.train(later, plan.then, result.progress)
    except TimeLimitReached:
        fit.run.events.note("time_limit_reached", "The time was over before the next stage began.")
        return Trained(fit, replace(plan, then=None), result.progress)
    best = progress.best
    words = strategy.compare(result.progress.best, best, progress.history)
    fit.run.events.note(f"kept_{best['stage']}", words)
    return Trained(fit, replace(plan, then=later.execution.noted(then)), progress)


def trained_head(fit: Fit, plan: Plan) -> StageResult:
    """Train the head and decide what follows, unless an earlier attempt did."""
    key = fit.key(plan)
    layer = fit.network.model.get_submodule(fit.network.heads.main)

    def earlier() -> StageResult | None:
        return stage_result.load(fit.run, fit.checkpoint, key, layer)

    with fit.group.in_turn():
        result = earlier()
    if result is None:
        finished, progress = head_stage.train(fit, plan)
        with fit.group.in_turn():  # Rank 0 decides; the others find its decision on disk.
            result = earlier() if fit.group.rank else None
            if result is None:
                result = decide_next(fit, finished, progress)
                stage_result.save(fit.checkpoint, key, result, layer)
    return result


def decide_next(fit: Fit, plan: Plan, head: Progress) -> StageResult:
    """Decide by the head's score and the time whether and how long the next stage is worth it."""
    decay = plan.weight_decay, plan.reasons["weight_decay"]
    if plan.then is None or plan.then.mode != "refine":
        return StageResult(head, decay, plan.then.epochs if plan.then else 0, "")
    deadline = fit.deadline
    left = None if deadline.minutes is None else max(0.0, 60 * deadline.minutes - deadline.spent)
    cost = strategy.Cost(epoch_seconds(fit, plan), deadline.spent, left)
    given = plan.then.reasons["epochs"] == GIVEN
    epochs, why = strategy.decide(head.best, plan.then.epochs, cost, given=given)
    if not epochs:
        fit.run.events.note("full_skipped", f"Only the head was trained: {why}.")
    return StageResult(head, decay, epochs, why)


def epoch_seconds(fit: Fit, plan: Plan) -> float:
    """Estimate an epoch over all layers from a few images that are only passed forward."""
    model = fit.execution.place(fit.network.model.eval())
    images = fit.execution.put(torch.zeros(TIMED, 3, plan.image_size, plan.image_size))
    seconds = []
    for _ in range(2):  # The first pass also allocates.
        began = time.monotonic()
        with fit.execution.autocast():
            forward(model, images).cpu()
        seconds.append(time.monotonic() - began)
    splits = fit.dataset.splits
    return min(seconds) / TIMED * (TRAINING_COST * len(splits["train"]) + len(splits["val"]))


def shares(plan: Plan, dataset: StagedDataset) -> dict[str, tuple[int, float]]:
    """Return the parts of a run with their units and their rough share of the time."""
    train, val, test = (len(dataset.splits[name]) for name in ("train", "val", "test"))
    parts: dict[str, tuple[int, float]] = {}
    again: dict[str, tuple[int, float]] = {}
    for stage in plan.stages():
        if stage.mode == "head":
            views, twice = VIEWS if augment.planned(stage) else 1, plan.refit * val
            seen, more = train + val + twice, (views - 1) * (train + twice)
            parts |= {"features": (seen, float(seen)), "views": (more, float(more))}
            cost = 0.05 * seen
            if plan.refit:
                steps = stage.epochs * batch_count(views * (train + val), stage.batch_size)
                again["refit"] = (steps, cost)
        else:
            views, cost = 1, stage.epochs * (3.0 * train + val)
        steps = stage.epochs * batch_count(views * train, stage.batch_size)
        parts[stage.stage] = (steps, cost)
    return parts | again | {"evaluate": (val + test, float(val + test))}
