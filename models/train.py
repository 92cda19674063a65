"""Train one model: `python -m models.train RUN_DIR`; `models.rundir` describes the folder.

Reads top to bottom: plan, build, train by one of two strategies, evaluate, publish.
"""

import dataclasses
import json
import math
import platform
import shutil
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch
from torch import nn

from models import artefact, augment, catalogue, decay, execution, features, sources
from models.catalogue import Architecture
from models.config import TrainRequest
from models.data import Staged
from models.evaluate import evaluate, headlines
from models.execution import Execution
from models.features import Standardise
from models.head import Head, split
from models.loop import Fit, Task
from models.meter import Meter
from models.plan import Plan, resolve
from models.predict import Classifier, Eager, Label
from models.prepare import Start, start
from models.resume import Progress
from models.rundir import RunDir, supervise


def train(run: RunDir) -> None:
    """Do the whole run; whatever an earlier attempt finished is not done again."""
    if run.result.is_dir():
        return
    request = TrainRequest.model_validate_json(run.request())
    run.events.phase("preparing")
    staged = Staged(request.dataset)
    facts = catalogue.get(request.config.architecture)
    plan = resolve(request.config, facts, {"classes": staged.classes, "counts": staged.counts()})
    how = execution.choose(plan, deterministic=request.config.deterministic)
    announce(run, staged, plan, how)
    begin = start(request, plan, facts, staged.classes)
    run.check_stop()
    meter = Meter(run.events, stages(plan, staged))
    run.events.phase("training")
    work = Work(run, request, staged, facts, how, meter)
    plan, done = (
        train_head(work, plan, begin) if plan.mode == "head" else train_all(work, plan, begin)
    )
    model = without_auxiliary(begin.model, facts).cpu()
    run.events.phase("evaluating")
    folder = run.begin_result()
    labels = [Label(name) for name in staged.classes]
    classifier = Classifier(Eager(model), begin.preprocess, labels)
    scores = evaluate(run, staged, classifier, folder, threads=how.threads, meter=meter)
    run.events.phase("publishing")
    history = {"epochs": done.history, "best": done.best}
    (folder / "history.json").write_text(json.dumps(history), encoding="utf-8")
    artefact.write(folder, model, card(work, plan, begin, done, headlines(scores)))
    run.publish_result(folder)
    staged.close()
    shutil.rmtree(run.path / "cache", ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Work:
    """What every part of a run needs."""

    run: RunDir
    request: TrainRequest
    staged: Staged
    facts: Architecture
    how: Execution
    meter: Meter


def train_head(work: Work, plan: Plan, begin: Start) -> tuple[Plan, Progress]:
    """Run the frozen trunk once over the images, then train the head on what came out."""
    trunk, head = split(work.how.place(begin.model.eval()), begin.heads.main)

    def collect(part: str) -> sources.Features:
        return features.collect(
            work.run,
            work.staged,
            part,
            trunk,
            begin.preprocess,
            work.how,
            work.meter,
        )

    train, val = collect("train"), collect("val") if work.staged.splits["val"] else None
    standard = features.prepare(head, train.values)
    layer = features.layer_of(head)
    each = layer.weight.numel() * train.values[0].numel() / layer.weight[0].numel()
    work.how.use_threads(3e-9 * plan.batch_size * each)
    if plan.weight_decay is None:
        plan = with_decay(plan, standard, head, train, work)
        work.run.events.emit("plan", plan=plan.to_json() | {"execution": explained(work.how)})
    module = work.how.place(nn.Sequential(standard, head))
    done = fit(work, plan, module, train, val, heads=("1",), auxiliary=())
    work.how.use_threads(math.inf)
    standard.cpu().fold_into(features.layer_of(head.cpu()))
    return plan, done


def with_decay(
    plan: Plan, standard: Standardise, head: Head, train: sources.Features, work: Work
) -> Plan:
    """Fill the weight decay in that only the features can tell."""
    choice = decay.Choice(decay.DEFAULT, "a usual value for a convolutional head")
    if isinstance(head[1], nn.Linear):
        seed, classes = work.request.config.seed, len(work.staged.classes)
        choice = decay.choose(standard(train.values), train.labels, classes, plan, seed)
    reasons = {**plan.reasons, "weight_decay": choice.reason}
    return dataclasses.replace(plan, weight_decay=choice.value, reasons=reasons)


def train_all(work: Work, plan: Plan, begin: Start) -> tuple[Plan, Progress]:
    """Train every layer on decoded, randomly changed images."""
    threads, seed = work.how.threads, work.request.config.seed
    prep, side = begin.preprocess, plan.image_size
    how = augment.named(plan.augmentation, side)
    train: sources.Source
    if how is None:
        train = sources.crops(work.run, work.staged, "train", prep, threads=threads)
    else:
        train = sources.canvases(work.run, work.staged, prep, how=how, seed=seed, threads=threads)
    val = None
    if work.staged.splits["val"]:
        val = sources.crops(work.run, work.staged, "val", prep, threads=threads)
    model = work.how.place(begin.model)
    work.how.use_threads(3 * plan.batch_size * work.facts.gigaops)
    weights = tuple(
        one.weight for one in work.facts.auxiliary if one.layer in begin.heads.auxiliary
    )
    return plan, fit(work, plan, model, train, val, heads=begin.heads.all, auxiliary=weights)


def fit(
    work: Work,
    plan: Plan,
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
        digest=work.staged.digest,
        execution=work.how,
    )
    return Fit(task, work.run, work.meter).train()


def announce(run: RunDir, staged: Staged, plan: Plan, how: Execution) -> None:
    """Publish the plan and what is unusual about the data."""
    run.events.emit("plan", plan=plan.to_json() | {"execution": explained(how)})
    if not staged.splits["val"]:
        words = "There are no validation images: the epoch with the smallest training loss is kept."
        run.events.note("no_validation_images", words)
    counts = staged.counts()
    for part in ("train", "val"):
        missing = [name for name in staged.classes if name not in counts.get(part, {})]
        if missing and staged.splits[part]:
            words = f"{len(missing)} classes have no image in {part}: {', '.join(missing[:5])}."
            run.events.note(f"class_missing_in_{part}", words)


def stages(plan: Plan, staged: Staged) -> dict[str, tuple[int, float]]:
    """Return the stages of a run with their units and their rough share of the time."""
    train, val, test = (len(staged.splits[name]) for name in ("train", "val", "test"))
    steps = plan.epochs * -(-train // plan.batch_size)
    if plan.mode == "head":
        seen = float(train + val)
        return {
            "features": (train + val, seen),
            "train": (steps, 0.05 * seen),
            "evaluate": (val + test, float(val + test)),
        }
    return {
        "train": (steps, plan.epochs * (3.0 * train + val)),
        "evaluate": (val + test, float(val + test)),
    }


def without_auxiliary(model: nn.Module, facts: Architecture) -> nn.Module:
    """Take the auxiliary heads out, which only training uses."""
    for one in facts.auxiliary:
        setattr(model, one.module, None)
    if hasattr(model, "aux_logits"):
        model.aux_logits = False  # type: ignore[assignment]  # A plain flag of two torchvision networks.
    return model


def card(
    work: Work, plan: Plan, begin: Start, done: Progress, scores: dict[str, Any]
) -> dict[str, Any]:
    """Return everything about the model that its weights do not say."""
    request = work.request
    return {
        "architecture": work.facts.name,
        "classes": work.staged.classes,
        "head": {"layers": [begin.heads.main], "auxiliary": []},
        "preprocess": begin.preprocess.to_dict(),
        "metrics": {**scores, "best": done.best},
        "dataset": {**request.dataset_ref.model_dump(), "digest": work.staged.digest},
        "config": request.config.model_dump(mode="json"),
        "plan": plan.to_json() | {"execution": explained(work.how)},
        "software": {
            "topwork": metadata.version("topwork"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": metadata.version("torchvision"),
        },
        "seed": request.config.seed,
        "exact": {"value": not done.inexact, "reason": done.inexact},
        "lineage": begin.lineage,
        "calibration": None,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def explained(how: Execution) -> dict[str, Any]:
    """Return the execution in the plan's form."""
    facts = how.facts()
    return {"value": facts, "reason": facts.pop("reason")}


if __name__ == "__main__":
    sys.exit(supervise(train, sys.argv[1:]))
