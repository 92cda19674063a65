"""Our training loop as a bench drives it: a session's own parts, put together as a job does."""

import json
from pathlib import Path

from core.system.run_dir import RunDir
from models.data import augment
from models.data.dataset import StagedDataset, batches
from models.data.sources import Indices
from models.planning import catalogue
from models.planning.plan import resolve
from models.planning.request import TrainRequest
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.loop import Loop
from models.training.session import Session


def loop_of(folder: Path, architecture: str, batch: int) -> Loop:
    """Return a full fine-tuning that stands before its first step.

    It is built over what `plain.prepare` left in the folder, in the arithmetic that the
    benchmark of a job chooses.
    """
    path = folder / f"run-{architecture}"
    path.mkdir(exist_ok=True)
    request = TrainRequest.model_validate(
        {
            "config": {
                "architecture": architecture,
                "strategy": "full",
                "augmentation": "standard",
                "hyperparameters": {"batch_size": batch},
            },
            "dataset": folder / "ingest" / "result",
            "weights_dir": folder / "weights",
            "offline": True,
        }
    )
    (path / "request.json").write_text(json.dumps(request.model_dump(mode="json")))
    run, dataset = RunDir(path), StagedDataset(request.dataset)
    summary = {"classes": dataset.classes, "counts": dataset.counts()}
    plan = resolve(request.config, catalogue.get(architecture), summary)
    session = Session(run, request, dataset, plan, Group(run, 1), Deadline(run, None))
    fit = session.prepare(plan)
    augmentation = augment.planned(plan)
    assert augmentation is not None
    images = fit.canvases(plan, augmentation)
    fit.execution.use_threads(3 * plan.batch_size * fit.network.architecture.gigaops)
    model = fit.execution.place(fit.network.model)
    return Loop(fit, plan, model, images, None, heads=fit.network.heads.all)


def cut(loop: Loop, epoch: int) -> list[Indices]:
    """Return the batches of an epoch."""
    return batches(loop.visits(epoch), loop.plan.batch_size)
