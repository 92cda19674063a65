"""A new head on a frozen trunk: the images pass once, the head learns on their features.

A linear head is fitted to its optimum (`models.training.linear_head`), any other by steps. Where
the plan says `refit`, it learns once more with the validation images that have judged it.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch

from models.data import augment, features
from models.data.features import FeatureExtractor, Standardise
from models.data.sources import Features
from models.evaluation import metrics
from models.evaluation.evaluate import Said
from models.networks.head import pooled, split
from models.networks.loading import load_tensors
from models.planning.plan import Plan
from models.training import linear_head, recipe
from models.training.checkpoint import Tensors
from models.training.fit import Fit, Trained
from models.training.linear_head import Answers, Problem
from models.training.loop import Loop
from models.training.resume import Progress
from topwork.errors import TimeLimitReached

CONVEX = "lbfgs"  # The optimizer of a plan whose head is fitted to its optimum.


def train(fit: Fit, plan: Plan) -> tuple[Plan, Progress]:
    """Run the frozen trunk once over the images, then train the head on what came out.

    Return what became of the plan, and how it went.
    """
    extractor = FeatureExtractor.fastest(fit.network, fit.execution)
    judge = extractor
    # Where the head is all that is trained, it is judged on the features that it will be served.
    if plan.then is None and fit.execution.device == "cpu":
        judge = FeatureExtractor.served(fit.network, fit.execution)
    fit = replace(fit, execution=fit.execution.for_head())
    with fit.group.in_turn():  # The others find the features of rank 0.
        every = plain(fit, plan, extractor)
        val, seen = None, len(every.labels)
        if fit.dataset.splits["val"]:
            val = features.collect(fit.cache, fit.dataset, "val", judge, fit.meter, before=seen)
        images = every.first(len(fit.dataset.splits["train"]))
        varied = with_views(fit, plan, images, extractor)
    if plan.optimizer == CONVEX:
        return compute(fit, plan, images, val, every)
    progress = train_on(fit, plan, varied, val)
    return progress.noted(plan), progress


def plain(fit: Fit, plan: Plan, extractor: FeatureExtractor) -> Features:
    """Return the features of all images that the published head learns from, train first."""
    dataset = fit.dataset.pooled() if plan.refit else fit.dataset
    return features.collect(fit.cache, dataset, "train", extractor, fit.meter)


def with_views(fit: Fit, plan: Plan, images: Features, extractor: FeatureExtractor) -> Features:
    """Return the features of the training images and, if planned, of random views of them."""
    augmentation = augment.planned(plan)
    if augmentation is None:
        return images
    canvases = fit.canvases(plan, augmentation)
    return features.with_views(fit.cache, fit.dataset, images, canvases, extractor, fit.meter)


def train_on(
    fit: Fit, plan: Plan, train: Features, val: Features | None, before: Progress | None = None
) -> Progress:
    """Train the network's head by steps on given features; return how it went.

    The execution of the fit is that of a head. Epochs are counted on from those `before`.
    """
    _, head = split(fit.network.model, fit.network.heads.main)
    standard = features.prepare(head, train.values)
    layer = features.layer_of(head)
    places = train.values[0].numel() / layer.weight[0].numel()
    fit.execution.use_threads(3e-9 * plan.batch_size * layer.weight.numel() * places)
    model = fit.execution.place(torch.nn.Sequential(standard, head))
    progress = Loop(fit, plan, model, train, val, heads=("1",), before=before).run()
    fit.execution.use_threads(math.inf)
    standard.cpu().fold_into(features.layer_of(head.cpu()))
    return progress


def compute(
    fit: Fit, plan: Plan, train: Features, val: Features | None, every: Features
) -> tuple[Plan, Progress]:
    """Fit the network's linear head to its optimum; the penalty is found on `every` image."""
    began = time.monotonic()
    found = cross_validated(fit, plan, every)
    penalty, reason = linear_head.USUAL, f"a usual value: {found}"
    if isinstance(found, Answers):
        penalty, reason = found.penalty, found.reason
    plan = plan.revised("weight_decay", penalty, reason)
    fit.announce(plan)
    put_best(fit, plan, train, penalty)
    _, head = split(fit.network.model, fit.network.heads.main)
    record = {"epoch": 1, "stage": plan.stage}
    metric = "train_loss"
    with torch.inference_mode():
        record["train_loss"] = metrics.quick(head.eval()(train.values), train.labels)["loss"]
        if val is not None:
            metric = f"val_{plan.selection_metric}"
            scores = metrics.quick(head(val.values), val.labels)
            record |= {f"val_{name}": value for name, value in scores.items()}
    fit.run.events.finished_epoch({**record, "seconds": round(time.monotonic() - began, 3)})
    fit.meter.at(plan.stage, 1)
    best = {**record, "metric": metric}
    return plan, Progress(epoch=2, history=[record], best=best, finished=True)


def put_best(fit: Fit, plan: Plan, data: Features, penalty: float) -> None:
    """Put the one best head on these features into the network.

    Raises:
        TimeLimitReached: The time was over before, and another head is there.
    """
    standard = Standardise.together(data.values)
    _, head = split(fit.network.model, fit.network.heads.main)
    layer = features.layer_of(head.cpu())
    if layer.bias is None:
        raise TypeError  # No network here has such a linear head: the mean could not be folded.
    problem = _problem(fit, plan, standard, data)
    with _searching(fit, problem) as between:
        best = linear_head.fit(problem, penalty, between)
    with torch.no_grad():
        layer.weight.copy_(best.weight)
        layer.bias.copy_(best.bias)
    standard.fold_into(layer)


def cross_validated(
    fit: Fit, plan: Plan, every: Features, penalty: float | None = None
) -> Answers | str:
    """Return what heads said about images that they had not seen, or why there are none.

    They choose the penalty unless it is given.
    """
    problem = _problem(fit, plan, Standardise.together(every.values), every)
    with _searching(fit, problem) as between:
        return linear_head.cross_validate(problem, fit.seed, between, penalty)


@contextmanager
def _searching(fit: Fit, problem: Problem) -> Iterator[Callable[[], None]]:
    """Set the threads for looks at a loss, and give what to call between two of them.

    The first head is finished in any case: it takes seconds, and without it there is no model.
    """

    def between() -> None:
        fit.run.events.alive()
        fit.run.check_stop()
        if fit.deadline.enough:
            fit.deadline.check()

    fit.execution.use_threads(1e-9 * problem.operations)
    try:
        yield between
    finally:
        fit.execution.use_threads(math.inf)


def _problem(fit: Fit, plan: Plan, standard: Standardise, data: Features) -> Problem:
    shift = recipe.shift(plan, data.labels, len(fit.dataset.classes))
    return Problem(standard(data.values), data.labels, shift, plan.label_smoothing)


def refit(trained: Trained, start: Tensors) -> Trained:
    """Fit the kept head once more, on the validation images too; what they said of it stays.

    `start` are the weights of the head's layer before any training, for a head that takes steps.
    The head is as it was where the time limit comes first.
    """
    fit, before = trained.fit, trained.progress
    plan = replace(trained.plan, stage="refit", then=None)
    layer = fit.network.model.get_submodule(fit.network.heads.main)
    judged = {name: value.detach().cpu().clone() for name, value in layer.state_dict().items()}
    fit.deadline.enough = fit.group.size == 1
    try:
        pooled = replace(fit, dataset=fit.dataset.pooled(), execution=fit.execution.for_head())
        with fit.group.in_turn():
            said = held_out_outputs(trained)
            unseen = {split: one.logits for split, one in said.items()}
            extractor = FeatureExtractor.fastest(fit.network, fit.execution)
            every = plain(fit, plan, extractor)
            varied = with_views(pooled, plan, every, extractor)
        if plan.optimizer == CONVEX:
            put_best(pooled, plan, every, _penalty(plan))
    except TimeLimitReached:
        return trained
    if plan.optimizer == CONVEX:
        fit.meter.at(plan.stage, 1)
        return replace(trained, unseen=unseen)
    load_tensors(layer, start)
    progress = train_on(pooled, plan, varied, None, before)
    progress.best = before.best
    if sum(record["stage"] == plan.stage for record in progress.history) < plan.epochs:
        load_tensors(layer, judged)
        return replace(trained, progress=progress)
    return replace(trained, progress=progress, unseen=unseen)


def _penalty(plan: Plan) -> float:
    if plan.weight_decay is None:
        raise TypeError  # The head that was judged has found it.
    return plan.weight_decay


def out_of_fold(trained: Trained, learned: Features | None) -> Answers | None:
    """Return what heads that had not seen them said about images that the head `learned` from.

    None where another stage is kept, where the head takes steps, or where no fold can be.
    """
    plan = trained.plan
    if learned is None or plan.optimizer != CONVEX:
        return None
    found = cross_validated(trained.fit, plan, learned, _penalty(plan))
    return found if isinstance(found, Answers) else None


def learned_from(trained: Trained) -> Features | None:
    """Return the features of the images that the kept head learned from, those of training first.

    None where the trunk was trained with it.
    """
    if not trained.of_head:
        return None
    fit, refitted = trained.fit, trained.unseen is not None
    plan = replace(trained.plan, refit=refitted)  # The time limit may have come before.
    return plain(fit, plan, FeatureExtractor.fastest(fit.network, fit.execution))


def held_out_outputs(trained: Trained) -> Mapping[str, Said]:
    """Return logits and features of held-out splits from features that are, or stay, cached.

    They are computed as the predictor does, on the CPU in fp32, and so not always those on which
    the head was trained. Nothing where the trunk was trained too: no other run has its features.
    """
    fit = trained.fit
    if not trained.of_head:
        return {}
    extractor = FeatureExtractor.served(fit.network, fit.execution)
    _, head = split(fit.network.model, fit.network.heads.main)
    found = {}
    for name in ("val", "test"):
        if fit.dataset.splits[name]:
            seen = features.collect(fit.cache, fit.dataset, name, extractor, fit.meter).values
            with torch.inference_mode():
                found[name] = Said(head.eval()(seen), pooled(seen))
    return found
