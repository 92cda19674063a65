"""A new head on a frozen trunk: the images pass once, the head learns on their features."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.data import augment, features
from models.data.features import FeatureExtractor, Standardise
from models.data.sources import Features
from models.networks.head import split
from models.planning.plan import Plan
from models.training import weight_decay_search
from models.training.fit import Fit, Trained
from models.training.loop import Loop
from models.training.resume import Progress


def train(fit: Fit, plan: Plan) -> tuple[Plan, Progress]:
    """Run the frozen trunk once over the images, then train the head on what came out."""
    extractor = FeatureExtractor.fastest(fit.network, fit.execution)
    judge = extractor
    # Where the head is all that is trained, it is judged on the features that it will be served.
    if plan.then is None and fit.execution.device == "cpu":
        judge = FeatureExtractor.served(fit.network, fit.execution)
    fit = replace(fit, execution=fit.execution.for_head())
    with fit.group.in_turn():  # The others find the features of rank 0.
        plain = features.collect(fit.cache, fit.dataset, "train", extractor, fit.meter)
        val, seen = None, len(plain.labels)
        if fit.dataset.splits["val"]:
            val = features.collect(fit.cache, fit.dataset, "val", judge, fit.meter, before=seen)
        varied, augmentation = plain, augment.planned(plan)
        if augmentation is not None:
            canvases = fit.canvases(augmentation)
            varied = features.with_views(
                fit.cache, fit.dataset, plain, canvases, extractor, fit.meter
            )
    return train_on(fit, plan, varied, val, plain)


def train_on(
    fit: Fit, plan: Plan, train: Features, val: Features | None, plain: Features
) -> tuple[Plan, Progress]:
    """Train the network's head on given features; return what became of the plan, and how it went.

    The execution of the fit is that of a head. Where no weight decay is planned, it is found on
    `plain` features, of each training image once.
    """
    _, head = split(fit.network.model, fit.network.heads.main)
    standard = features.prepare(head, train.values)
    layer = features.layer_of(head)
    places = train.values[0].numel() / layer.weight[0].numel()
    fit.execution.use_threads(3e-9 * plan.batch_size * layer.weight.numel() * places)
    if plan.weight_decay is None:
        choice = weight_decay_search.Choice(
            weight_decay_search.DEFAULT, "a usual value for a convolutional head"
        )
        if isinstance(layer, nn.Linear):
            values, classes = standard(plain.values), len(fit.dataset.classes)
            choice = weight_decay_search.choose(values, plain.labels, classes, plan, fit.seed)
        plan = plan.revised("weight_decay", choice.value, choice.reason)
        fit.announce(plan)
    model = fit.execution.place(nn.Sequential(standard, head))
    progress = Loop(fit, plan, model, train, val, heads=("1",)).run()
    fit.execution.use_threads(math.inf)
    standard.cpu().fold_into(features.layer_of(head.cpu()))
    return progress.noted(plan), progress


def out_of_fold(trained: Trained) -> tuple[Tensor, Tensor] | None:
    """Return logits (n, classes) of training images by heads that had not seen them, and labels.

    Each head is trained as the published one was, on four fifths of at most 4096 images. None where
    no fold can be: where another stage is kept, where the head learned from views, is no linear
    layer, was trained with another optimiser, loss or choice of images (see `trains_as`) or was
    ended before its last epoch, or where there is no time or image for folds.
    """
    fit, plan = trained.fit, trained.plan
    _, head = split(fit.network.model, fit.network.heads.main)
    linear = isinstance(features.layer_of(head), nn.Linear)
    alike = weight_decay_search.trains_as(plan) and augment.planned(plan) is None
    if not (_kept(trained) and linear and alike):
        return None
    extractor = FeatureExtractor.fastest(fit.network, fit.execution)
    plain = features.collect(fit.cache, fit.dataset, "train", extractor, fit.meter)
    values = Standardise.of(plain.values)(plain.values)
    decay = 0.0 if plan.weight_decay is None else plan.weight_decay
    classes = len(fit.dataset.classes)
    found = weight_decay_search.answers(values, plain.labels, classes, plan, fit.seed, (decay,))
    if isinstance(found, str):
        return None
    return found.logits[:, 0], plain.labels[found.images]


def _kept(trained: Trained) -> bool:
    """Tell whether a head on the frozen trunk is what was kept, and was trained to its end."""
    plan, progress = trained.plan, trained.progress
    epochs = sum(record["stage"] == "head" for record in progress.history)
    return plan.mode == "head" and progress.best.get("stage") == "head" and epochs == plan.epochs


def held_out_logits(trained: Trained) -> Mapping[str, Tensor]:
    """Return logits (n, classes) of held-out splits from features that are, or stay, cached.

    They are computed as the predictor does, on the CPU in fp32, and so not always those on which
    the head was trained. Nothing where the trunk was trained too: no other run has its features.
    """
    fit, plan = trained.fit, trained.plan
    if plan.mode != "head" or plan.then is not None:
        return {}
    extractor = FeatureExtractor.served(fit.network, fit.execution)
    _, head = split(fit.network.model, fit.network.heads.main)
    with torch.inference_mode():
        return {
            name: head.eval()(
                features.collect(fit.cache, fit.dataset, name, extractor, fit.meter).values
            )
            for name in ("val", "test")
            if fit.dataset.splits[name]
        }
