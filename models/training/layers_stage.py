"""Train every layer, at once or block by block, on decoded, randomly changed images."""

from models.data import augment, sources
from models.data.sources import Canvases, Crops
from models.networks import blocks
from models.networks.loading import load_tensors
from models.planning.plan import Plan
from models.training import resume
from models.training.fit import Fit
from models.training.loop import Loop
from models.training.resume import Progress
from topwork.errors import TimeLimitReached


def train(fit: Fit, plan: Plan, before: Progress | None = None) -> tuple[Plan, Progress]:
    """Train the whole network; return what became of the plan, and how it went.

    What the stage `before` this one reached is to be beaten.

    Raises:
        TimeLimitReached: Before there was any epoch to keep.
    """
    network, auxiliary = fit.network, fit.network.heads.auxiliary
    model = fit.group.synchronised(fit.execution.place(network.model))
    factors = tuple(one.weight for one in network.architecture.auxiliary if one.layer in auxiliary)
    cut = blocks.blocks(model, network.heads, plan.blocks) if plan.blocks else []
    if cut:
        parts = "; ".join(f"{block[0]} to {block[-1]}" for block in cut)
        reason = f"{plan.reasons['blocks']}; from the head: {parts}"
        plan = plan.revised("blocks", len(cut), reason)
    saved = any((fit.checkpoint / plan.stage).glob("best-*"))
    # Ranks wait for each other's images, so rank 0 may not leave alone.
    fit.deadline.enough = fit.group.size == 1 and (saved or before is not None)
    try:
        images, val = decoded(fit, plan)
    except TimeLimitReached:
        progress = reached_before(fit, plan)  # Of one process, so the model is the network's own.
    else:
        fit.execution.use_threads(3 * plan.batch_size * network.architecture.gigaops)
        loop = Loop(
            fit,
            plan,
            model,
            images,
            val,
            heads=network.heads.all,
            auxiliary=factors,
            cut=cut,
            before=before,
        )
        progress = loop.run()
    return progress.noted(plan), progress


def decoded(fit: Fit, plan: Plan) -> tuple[Crops | Canvases, Crops | None]:
    """Decode the images to train on and, where there are some, those to validate on."""

    def crops(split: str) -> Crops:
        preprocess = fit.network.preprocess
        return sources.crops(fit.cache, fit.dataset, split, preprocess, execution=fit.execution)

    augmentation = augment.planned(plan)
    with fit.group.in_turn():
        images = crops("train") if augmentation is None else fit.canvases(plan, augmentation)
        return images, crops("val") if fit.dataset.splits["val"] else None


def reached_before(fit: Fit, plan: Plan) -> Progress:
    """Put the best weights of earlier attempts into the network, for which no image is needed.

    Raises:
        TimeLimitReached: There are none of this stage.
    """
    models = {"model": fit.network.model}
    newest = resume.newest(fit.run, fit.checkpoint / plan.stage, fit.key(plan), models)
    if newest is None or not newest[2]:
        fit.deadline.enough = False
        fit.deadline.check()  # Without any model, a retry has all its time.
        raise TimeLimitReached
    _, state, best = newest
    load_tensors(fit.network.model, best)
    words = "The time was over while images were decoded. What was reached before is kept."
    fit.run.events.note("time_limit_reached", words)
    return Progress(**state["progress"])
