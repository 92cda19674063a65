"""The two ways to train: a head on a frozen trunk, or every layer."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from core.meter import Meter
from core.rundir import RunDir
from models.catalogue import Architecture
from models.config import TrainRequest
from models.data import augment, features, sources
from models.data.cache import Cache
from models.data.features import Passage, Standardise
from models.data.staged import Staged
from models.networks.head import Head, split
from models.plan import Plan
from models.training import decay
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.execution import Execution
from models.training.loop import Fit, Task
from models.training.prepare import Start
from models.training.resume import Progress


@dataclass(frozen=True)
class Work:
    """What every part of a run needs."""

    run: RunDir
    request: TrainRequest
    staged: Staged
    facts: Architecture
    how: Execution
    meter: Meter
    deadline: Deadline
    group: Group
    cache: Cache


def train_head(work: Work, plan: Plan, begin: Start) -> tuple[Plan, Progress]:
    """Run the frozen trunk once over the images, then train the head on what came out."""
    frozen, head = split(work.how.place(begin.model.eval()), begin.heads.main)
    trunk = work.how.running(frozen)
    work = replace(work, how=work.how.for_head())
    passage = passage_of(work, begin, trunk)
    train = features.collect(work.cache, work.staged, "train", passage, work.meter)
    val, seen = None, len(train.labels)
    if work.staged.splits["val"]:
        val = features.collect(work.cache, work.staged, "val", passage, work.meter, before=seen)
    plain = train
    if (how := augment.named(plan.augmentation, plan.image_size)) is not None:
        canvases = canvases_of(work, begin, how)
        train = features.with_views(work.cache, work.staged, plain, canvases, passage, work.meter)
    standard = features.prepare(head, train.values)
    layer = features.layer_of(head)
    each = layer.weight.numel() * train.values[0].numel() / layer.weight[0].numel()
    work.how.use_threads(3e-9 * plan.batch_size * each)
    if plan.weight_decay is None:
        plan = with_decay(plan, standard, head, plain, work)
        work.run.events.emit("plan", plan=plan.to_json() | work.how.explained())
    module = work.how.place(nn.Sequential(standard, head))
    done = fit(work, plan, begin, module, train, val, heads=("1",), auxiliary=())
    work.how.use_threads(math.inf)
    standard.cpu().fold_into(features.layer_of(head.cpu()))
    return plan, done


def told(work: Work, begin: Start, plan: Plan) -> dict[str, Tensor]:
    """Return logits (n, classes) of held-out splits from features that are, or stay, cached.

    They are computed as the predictor does, on the CPU in fp32, and so not always those on which
    the head was trained. Nothing where the trunk was trained too: no other run has its features.
    """
    if plan.mode != "head" or getattr(plan, "then", None) is not None:
        return {}
    model = begin.model.cpu().eval().to(memory_format=torch.channels_last)
    trunk, head = split(model, begin.heads.main)
    serving = replace(
        work.how, device="cpu", precision="fp32", channels_last=True, grouped_fp32=False
    )
    passage = passage_of(replace(work, how=serving.for_head()), begin, trunk)
    parts = [name for name in ("val", "test") if work.staged.splits[name]]
    with torch.inference_mode():
        return {
            name: head.eval()(
                features.collect(work.cache, work.staged, name, passage, work.meter).values
            )
            for name in parts
        }


def passage_of(work: Work, begin: Start, trunk: nn.Module) -> Passage:
    """Name the trunk, so that other runs find its features."""
    origin = f"{work.facts.name} {begin.heads.main} {begin.lineage['sha256']}"
    return Passage(trunk, origin, begin.preprocess, work.how)


def with_decay(
    plan: Plan, standard: Standardise, head: Head, train: sources.Features, work: Work
) -> Plan:
    """Fill the weight decay in that only the features can tell."""
    choice = decay.Choice(decay.DEFAULT, "a usual value for a convolutional head")
    if isinstance(head[1], nn.Linear):
        seed, classes = work.request.config.seed, len(work.staged.classes)
        choice = decay.choose(standard(train.values), train.labels, classes, plan, seed)
    reasons = {**plan.reasons, "weight_decay": choice.reason}
    return replace(plan, weight_decay=choice.value, reasons=reasons)


def train_all(work: Work, plan: Plan, begin: Start) -> tuple[Plan, Progress]:
    """Train every layer on decoded, randomly changed images."""
    threads, prep = work.how.threads, begin.preprocess
    how = augment.named(plan.augmentation, plan.image_size)
    train: sources.Source
    with work.group.in_turn():
        if how is None:
            train = sources.crops(work.cache, work.staged, "train", prep, threads=threads)
        else:
            train = canvases_of(work, begin, how)
        val = None
        if work.staged.splits["val"]:
            val = sources.crops(work.cache, work.staged, "val", prep, threads=threads)
    model = work.group.synchronised(work.how.place(begin.model))
    work.how.use_threads(3 * plan.batch_size * work.facts.gigaops)
    weights = tuple(
        one.weight for one in work.facts.auxiliary if one.layer in begin.heads.auxiliary
    )
    heads = begin.heads.all
    return plan, fit(work, plan, begin, model, train, val, heads=heads, auxiliary=weights)


def canvases_of(work: Work, begin: Start, how: augment.Augmentation) -> sources.Canvases:
    """Decode the training images for random views."""
    seed, threads = work.request.config.seed, work.how.threads
    return sources.canvases(
        work.cache, work.staged, begin.preprocess, how=how, seed=seed, threads=threads
    )


def fit(
    work: Work,
    plan: Plan,
    begin: Start,
    model: nn.Module,
    train: sources.Source,
    val: sources.Source | None,
    *,
    heads: tuple[str, ...],
    auxiliary: tuple[float, ...],
) -> Progress:
    """Run the loop."""
    task = Task(
        model=model,
        train=train,
        val=val,
        plan=plan,
        heads=heads,
        auxiliary=auxiliary,
        classes=len(work.staged.classes),
        seed=work.request.config.seed,
        # A name like `model:pets` can mean other weights by the next attempt.
        digest=f"{work.staged.digest} {begin.lineage['sha256']}",
        execution=work.how,
        deadline=work.deadline,
        group=work.group,
    )
    return Fit(task, work.run, work.meter).train()
