"""Train one model: `python -P -m models.train RUN_DIR`; `core.system.run_dir` describes the folder.

Reads top to bottom: plan, build, train stage by stage, evaluate, calibrate, publish.
"""

import json
import platform
import shutil
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.system.progress import Meter
from core.system.run_dir import RunDir, supervise
from models.compute import execution
from models.data import augment
from models.data.cache import Cache
from models.data.dataset import Staged, batch_count
from models.evaluation.calibrate import calibrate
from models.evaluation.evaluate import answer, calibration_of, evaluate, headlines
from models.inference import artefact
from models.inference.classifier import Classifier, Eager, Label
from models.planning import catalogue
from models.planning.catalogue import Architecture
from models.planning.defaults import VIEWS
from models.planning.plan import Plan, resolve
from models.training import precision_benchmark, preflight, stages
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.initial_model import Start, parent_size, start
from models.training.resume import Progress
from models.training.stages import Work, train_stages
from topwork.types.training import TrainRequest


def train(run: RunDir) -> None:
    """Do the whole run; whatever an earlier attempt finished is not done again."""
    if run.result.is_dir():
        return
    request = TrainRequest.model_validate_json(run.request())
    run.events.phase("preparing")
    staged = Staged(request.dataset, request.dataset_sha256)
    facts = catalogue.get(request.config.architecture)
    summary = {"classes": staged.classes, "counts": staged.counts()}
    plan = resolve(request.config, facts, summary, parent_size(request))
    with Group(run, plan.devices) as group:
        deadline = Deadline(run, None if group.rank else plan.max_minutes)
        with group.in_turn():
            how = execution.choose(plan, deterministic=request.config.deterministic)
        announce(run, staged, plan)
        remembered = request.cache_dir / "execution" if request.cache_dir else None
        with group.in_turn():  # What rank 0 chooses the others find beside the checkpoints.
            begin = start(run, request, plan, facts, staged.classes)
            how = precision_benchmark.decide(
                how, precision_benchmark.Problem(plan, begin, facts, staged), run, remembered
            )
        run.events.emit("plan", plan=plan.to_json() | how.explained())
        need = preflight.needed(begin.model, begin.heads.main, plan.stages()[-1])
        if not group.rank:
            preflight.check(run, need, shared_arrays(request))
        run.check_stop()
        meter = Meter(run.events, stages(plan, staged))
        run.events.phase("training")
        cache = cache_of(run, request, deadline, need)
        work = Work(run, request, staged, facts, how, meter, deadline, group, cache)
        plan, done = train_stages(work, plan, begin)
    if group.rank:
        return
    deadline.lift()
    model = without_auxiliary(begin.model, facts).cpu()
    run.events.phase("evaluating")
    folder = run.begin_result()
    labels = [Label(name) for name in staged.classes]
    classifier = Classifier(Eager(model), begin.preprocess, labels)
    told = stages.told(work, begin, plan)
    answers = answer(run, staged, classifier, threads=how.threads, meter=meter, told=told)
    run.events.phase("calibrating")
    calibration = calibrate(answers.get("val"), staged.labels("val"))
    if calibration.reason:
        run.events.note("not_calibrated", f"Confidences stay as they are: {calibration.reason}.")
    seed = request.config.seed
    scores = evaluate(staged, classifier, answers, calibration, folder, seed=seed)
    run.events.phase("publishing")
    history = {"epochs": done.history, "best": done.best}
    (folder / "history.json").write_text(json.dumps(history, sort_keys=True), encoding="utf-8")
    measured = {
        "metrics": {**headlines(scores), "best": done.best},
        "calibration": calibration_of(calibration, scores),
    }
    artefact.write(folder, model, card(work, plan, begin, done) | measured)
    staged.close()
    shutil.rmtree(run.path / "cache", ignore_errors=True)
    run.publish_result(folder)


def shared_arrays(request: TrainRequest) -> Path | None:
    """Return the folder of decoded images and features that outlives the run."""
    return request.cache_dir / "arrays" if request.cache_dir else None


def cache_of(run: RunDir, request: TrainRequest, deadline: Deadline, spare: int) -> Cache:
    """Return where decoded images and features lie: on this machine, or in the run's folder."""

    def between() -> None:
        run.events.alive()
        run.check_stop()
        deadline.check()

    shared = shared_arrays(request) if request.cache_bytes else None
    return Cache(run.path / "cache", between, shared, request.cache_bytes, spare)


def announce(run: RunDir, staged: Staged, plan: Plan) -> None:
    """Publish the plan and what is unusual about the data."""
    run.events.emit("plan", plan=plan.to_json())
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
    parts: dict[str, tuple[int, float]] = {}
    for one in plan.stages():
        if one.mode == "head":
            seen, views = float(train + val), VIEWS if augment.planned(one) else 1
            more = (views - 1) * train
            parts |= {"features": (train + val, seen), "views": (more, float(more))}
            cost = 0.05 * seen
        else:
            views, cost = 1, one.epochs * (3.0 * train + val)
        steps = one.epochs * batch_count(views * train, one.batch_size)
        parts[one.stage] = (steps, cost)
    return parts | {"evaluate": (val + test, float(val + test))}


def without_auxiliary(model: nn.Module, facts: Architecture) -> nn.Module:
    """Take the auxiliary heads out, which only training uses."""
    for one in facts.auxiliary:
        setattr(model, one.module, None)
    if hasattr(model, "aux_logits"):
        model.aux_logits = False  # type: ignore[assignment]  # A plain flag of two torchvision networks.
    return model


def card(work: Work, plan: Plan, begin: Start, done: Progress) -> dict[str, Any]:
    """Return what neither the model's weights nor its scores say."""
    request = work.request
    return {
        "architecture": work.facts.name,
        "classes": work.staged.classes,
        "head": {"layers": [begin.heads.main], "auxiliary": []},
        "preprocess": begin.preprocess.to_dict(),
        "dataset": {**request.dataset_ref.model_dump(), "digest": work.staged.digest},
        "config": request.config.model_dump(mode="json"),
        "plan": plan.to_json() | work.how.explained(),
        "software": {
            "topwork": metadata.version("topwork"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": metadata.version("torchvision"),
        },
        "seed": request.config.seed,
        "exact": {"value": not done.inexact, "reason": done.inexact},
        "lineage": begin.lineage,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


if __name__ == "__main__":
    execution.keep_memory()
    sys.exit(supervise(train, sys.argv[1:], resumable=True))
