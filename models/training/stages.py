"""The ways to train: a head on a frozen trunk, every layer, or one after the other."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from core.system.progress import Meter
from core.system.run_dir import RunDir
from models.compute import execution
from models.compute.execution import Execution
from models.data import augment, features, sources
from models.data.cache import Cache
from models.data.dataset import Staged
from models.data.features import Passage, Standardise
from models.inference.classifier import forward
from models.networks import blocks
from models.networks.blocks import Block
from models.networks.fold import folded
from models.networks.head import Head, split
from models.networks.loading import load_tensors
from models.planning import strategy
from models.planning.catalogue import Architecture
from models.planning.plan import GIVEN, Plan
from models.training import precision_benchmark, resume, stage_result, weight_decay_search
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.initial_model import Start
from models.training.loop import Fit, Task
from models.training.resume import Progress
from models.training.stage_result import Handover
from topwork.errors import TimeLimitReached
from topwork.types.training import TrainRequest

TIMED = 8  # Images passed forward to estimate what training costs.
TRAINING_COST = 4.0  # Of a training step in forward passes; measured 3.9 and 4.4 (performance.md).


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


def train_stages(work: Work, plan: Plan, begin: Start) -> tuple[Plan, Progress]:
    """Train stage by stage and leave the best weights of all of them in the model."""
    if plan.mode != "head":
        return train_layers(work, plan, begin)
    key = resume.key(plan, digest(work, begin), work.request.config.seed, work.how)
    layer = begin.model.get_submodule(begin.heads.main)
    with work.group.in_turn():
        handed = stage_result.load(work.run, key, layer)
    if handed is None:
        finished, done = train_head(work, plan, begin)
        with work.group.in_turn():  # Rank 0 decides; the others find its decision on disk.
            handed = stage_result.load(work.run, key, layer) if work.group.rank else None
            if handed is None:
                handed = go_on(work, finished, begin, done)
                stage_result.save(work.run, key, handed, layer)
    plan, head = handed.continued(plan), handed.progress
    if plan.then is None:
        return plan, head
    how = measured(work, plan.then, begin)
    announce(work, replace(plan, then=how.noted(plan.then)))
    try:
        then, done = train_layers(replace(work, how=how), plan.then, begin, head)
    except TimeLimitReached:
        work.run.events.note("time_limit_reached", "The time was over before the next stage began.")
        return replace(plan, then=None), head
    words = strategy.compare(head.best, done.best, done.history)
    work.run.events.note(f"kept_{done.best['stage']}", words)
    return replace(plan, then=how.noted(then)), done


def measured(work: Work, plan: Plan, begin: Start) -> Execution:
    """Return the arithmetic of a stage, whatever ran before: fast forward may be slow backward."""
    request = work.request
    cache = request.cache_dir / "execution" if request.cache_dir else None
    with work.group.in_turn():
        how = execution.choose(plan, deterministic=request.config.deterministic)
        problem = precision_benchmark.Problem(plan, begin, work.facts, work.staged)
        return precision_benchmark.decide(how, problem, work.run, cache)


def go_on(work: Work, plan: Plan, begin: Start, done: Progress) -> Handover:
    """Decide by the head's score and the time whether and how long the next stage is worth it."""
    decay_chosen = plan.weight_decay, plan.reasons["weight_decay"]
    if plan.then is None or plan.then.mode != "refine":
        return Handover(done, decay_chosen, plan.then.epochs if plan.then else 0, "")
    deadline = work.deadline
    left = None if deadline.minutes is None else max(0.0, 60 * deadline.minutes - deadline.spent)
    cost = strategy.Cost(epoch_seconds(work, plan, begin), deadline.spent, left)
    given = plan.then.reasons["epochs"] == GIVEN
    epochs, why = strategy.decide(done.best, plan.then.epochs, cost, given=given)
    if not epochs:
        work.run.events.note("full_skipped", f"Only the head was trained: {why}.")
    return Handover(done, decay_chosen, epochs, why)


def epoch_seconds(work: Work, plan: Plan, begin: Start) -> float:
    """Estimate an epoch over all layers from a few images that are only passed forward."""
    model = work.how.place(begin.model.eval())
    images = work.how.put(torch.zeros(TIMED, 3, plan.image_size, plan.image_size))
    taken = []
    for _ in range(2):  # The first pass also allocates.
        began = time.monotonic()
        with work.how.autocast():
            forward(model, images).cpu()
        taken.append(time.monotonic() - began)
    sizes = {name: len(samples) for name, samples in work.staged.splits.items()}
    return min(taken) / TIMED * (TRAINING_COST * sizes["train"] + sizes["val"])


def train_head(work: Work, plan: Plan, begin: Start) -> tuple[Plan, Progress]:
    """Run the frozen trunk once over the images, then train the head on what came out."""
    _, head = split(work.how.place(begin.model.eval()), begin.heads.main)
    passage = passage_of(work, begin)
    # Where the head is all that is trained, it is judged on the features that it will be served.
    judged = served(work, begin) if features_stay(work, plan) else passage
    work = replace(work, how=work.how.for_head())
    with work.group.in_turn():  # The others find the features of rank 0.
        train = features.collect(work.cache, work.staged, "train", passage, work.meter)
        val, seen = None, len(train.labels)
        if work.staged.splits["val"]:
            val = features.collect(work.cache, work.staged, "val", judged, work.meter, before=seen)
        plain = train
        if (how := augment.planned(plan)) is not None:
            canvases = canvases_of(work, begin, how)
            train = features.with_views(
                work.cache, work.staged, plain, canvases, passage, work.meter
            )
    standard = features.prepare(head, train.values)
    layer = features.layer_of(head)
    each = layer.weight.numel() * train.values[0].numel() / layer.weight[0].numel()
    work.how.use_threads(3e-9 * plan.batch_size * each)
    if plan.weight_decay is None:
        plan = with_decay(plan, standard, head, plain, work)
        announce(work, plan)
    module = work.how.place(nn.Sequential(standard, head))
    done = fit(work, plan, begin, module, train, val, heads=("1",), auxiliary=())
    work.how.use_threads(math.inf)
    standard.cpu().fold_into(features.layer_of(head.cpu()))
    return noted(plan, done), done


def told(work: Work, begin: Start, plan: Plan) -> dict[str, Tensor]:
    """Return logits (n, classes) of held-out splits from features that are, or stay, cached.

    They are computed as the predictor does, on the CPU in fp32, and so not always those on which
    the head was trained. Nothing where the trunk was trained too: no other run has its features.
    """
    if plan.mode != "head" or plan.then is not None:
        return {}
    passage = served(work, begin)
    _, head = split(begin.model, begin.heads.main)
    parts = [name for name in ("val", "test") if work.staged.splits[name]]
    with torch.inference_mode():
        return {
            name: head.eval()(
                features.collect(work.cache, work.staged, name, passage, work.meter).values
            )
            for name in parts
        }


def features_stay(work: Work, plan: Plan) -> bool:
    """Tell whether `told` will ask for the predictor's features, and whether they lie at hand."""
    return plan.then is None and work.how.device == "cpu"


def passage_of(work: Work, begin: Start) -> Passage:
    """Send images through the frozen trunk as fast as possible."""
    trunk = folded(work.how.place(begin.model.eval()), begin.heads.main)
    return _passage(work, begin, work.how, trunk, "folded")


def served(work: Work, begin: Start) -> Passage:
    """Send images through the frozen trunk as the predictor does: the network as it is, in fp32.

    The form counts as well as the precision: where features hardly vary, standardising them blows
    up what folding rounds.
    """
    how = work.how.serving()
    trunk, _ = split(how.place(begin.model.eval()), begin.heads.main)
    return _passage(work, begin, how, trunk, "plain")


def _passage(work: Work, begin: Start, how: Execution, trunk: nn.Module, form: str) -> Passage:
    """Name the trunk, so that other runs find its features."""
    origin = f"{work.facts.name} {begin.heads.main} {begin.lineage['sha256']} {form}"
    return Passage(trunk, how.running(trunk), origin, begin.preprocess, how.for_head())


def with_decay(
    plan: Plan, standard: Standardise, head: Head, train: sources.Features, work: Work
) -> Plan:
    """Fill the weight decay in that only the features can tell."""
    choice = weight_decay_search.Choice(
        weight_decay_search.DEFAULT, "a usual value for a convolutional head"
    )
    if isinstance(head[1], nn.Linear):
        seed, classes = work.request.config.seed, len(work.staged.classes)
        choice = weight_decay_search.choose(
            standard(train.values), train.labels, classes, plan, seed
        )
    reasons = {**plan.reasons, "weight_decay": choice.reason}
    return replace(plan, weight_decay=choice.value, reasons=reasons)


def train_layers(
    work: Work, plan: Plan, begin: Start, before: Progress | None = None
) -> tuple[Plan, Progress]:
    """Train every layer, at once or block by block, on decoded, randomly changed images."""
    model = work.group.synchronised(work.how.place(begin.model))
    weights = tuple(
        one.weight for one in work.facts.auxiliary if one.layer in begin.heads.auxiliary
    )
    cut = blocks.blocks(model, begin.heads, plan.blocks) if plan.blocks else []
    if cut:
        parts = "; ".join(f"{block[0]} to {block[-1]}" for block in cut)
        plan = replace(
            plan, blocks=len(cut), reasons=_more(plan, "blocks", f"from the head: {parts}")
        )
    saved = any((work.run.checkpoint / plan.stage).glob("best-*"))
    # Ranks wait for each other's images, so rank 0 may not leave alone.
    work.deadline.enough = work.group.size == 1 and (saved or before is not None)
    try:
        train, val = pictures(work, plan, begin)
    except TimeLimitReached:
        done = reached(work, plan, begin, model)
    else:
        work.how.use_threads(3 * plan.batch_size * work.facts.gigaops)
        heads = begin.heads.all
        done = fit(
            work,
            plan,
            begin,
            model,
            train,
            val,
            heads=heads,
            auxiliary=weights,
            cut=cut,
            before=before,
        )
    return noted(plan, done), done


def pictures(
    work: Work, plan: Plan, begin: Start
) -> tuple[sources.Crops | sources.Canvases, sources.Crops | None]:
    """Decode the images to train on and, where there are some, those to validate on."""
    prep = begin.preprocess
    how = augment.planned(plan)
    train: sources.Crops | sources.Canvases
    with work.group.in_turn():
        if how is None:
            train = sources.crops(work.cache, work.staged, "train", prep, execution=work.how)
        else:
            train = canvases_of(work, begin, how)
        val = None
        if work.staged.splits["val"]:
            val = sources.crops(work.cache, work.staged, "val", prep, execution=work.how)
    return train, val


def reached(work: Work, plan: Plan, begin: Start, model: nn.Module) -> Progress:
    """Put the best weights of earlier attempts into the model, for which no image is needed.

    Raises:
        TimeLimitReached: There are none of this stage.
    """
    key = resume.key(plan, digest(work, begin), work.request.config.seed, work.how)
    found = resume.newest(work.run, work.run.checkpoint / plan.stage, key, {"model": model})
    if found is None or not found[2]:
        work.deadline.enough = False
        work.deadline.check()  # Without any model, a retry has all its time.
        raise TimeLimitReached
    _, state, best = found
    load_tensors(model, best)
    words = "The time was over while images were decoded. What was reached before is kept."
    work.run.events.note("time_limit_reached", words)
    return Progress(**state["progress"])


def noted(plan: Plan, done: Progress) -> Plan:
    """Return the plan with what only showed while it was carried out."""
    if done.parts == 1:
        return plan
    words = f"each batch was taken in {done.parts} parts, as memory ran out"
    return replace(plan, reasons=_more(plan, "batch_size", words))


def announce(work: Work, plan: Plan) -> None:
    """Publish the plan again when it has become more definite."""
    work.run.events.emit("plan", plan=plan.to_json() | work.how.explained())


def digest(work: Work, begin: Start) -> str:
    """Return what tells the images, their class numbers and the first weights from all others.

    A name like `model:pets` can mean other weights by the next attempt. The digest of the images
    covers the names of their classes but not their order, which gives each its output.
    """
    order = json.dumps(work.staged.classes)
    return f"{work.staged.digest} {begin.lineage['sha256']} {order}"


def _more(plan: Plan, name: str, words: str) -> dict[str, str]:
    return {**plan.reasons, name: f"{plan.reasons[name]}; {words}"}


def canvases_of(work: Work, begin: Start, how: augment.Augmentation) -> sources.Canvases:
    """Decode the training images for random views."""
    seed, prep = work.request.config.seed, begin.preprocess
    return sources.canvases(work.cache, work.staged, prep, how=how, seed=seed, execution=work.how)


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
    cut: Sequence[Block] = (),
    before: Progress | None = None,
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
        digest=digest(work, begin),
        execution=work.how,
        deadline=work.deadline,
        group=work.group,
        cut=cut,
        before=before,
    )
    return Fit(task, work.run, work.meter).train()
