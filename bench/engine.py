"""Our training loop as a bench drives it: the engine's own parts, put together as a job does."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.system.progress import Meter
from core.system.run_dir import RunDir
from models.compute import execution
from models.compute.execution import Execution
from models.data import augment, sources
from models.data.cache import Cache
from models.data.dataset import Staged, batches
from models.data.sources import Indices
from models.planning import catalogue
from models.planning.plan import resolve
from models.training import precision_benchmark
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.initial_model import start
from models.training.loop import Fit, Task
from topwork.types.training import TrainRequest


@dataclass(frozen=True)
class Engine:
    """A full fine-tuning that stands before its first step."""

    fit: Fit
    how: Execution

    @classmethod
    def of(cls, folder: Path, architecture: str, batch: int) -> "Engine":
        """Build it over what `plain.prepare` left in the folder, with the probe's choice."""
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
        run, staged = RunDir(path), Staged(request.dataset)
        facts = catalogue.get(architecture)
        summary = {"classes": staged.classes, "counts": staged.counts()}
        plan = resolve(request.config, facts, summary)
        how = execution.choose(plan, deterministic=request.config.deterministic)
        begin = start(run, request, plan, facts, staged.classes)
        how = precision_benchmark.decide(
            how, precision_benchmark.Problem(plan, begin, facts, staged), run, None
        )
        views = augment.named(plan.augmentation, plan.image_size)
        assert views is not None
        train = sources.canvases(
            Cache(path / "cache", lambda: None),
            staged,
            begin.preprocess,
            how=views,
            seed=0,
            execution=how,
        )
        how.use_threads(3 * plan.batch_size * facts.gigaops)
        task = Task(
            model=how.place(begin.model),
            train=train,
            val=None,
            plan=plan,
            heads=begin.heads.all,
            auxiliary=(),
            classes=len(staged.classes),
            seed=0,
            digest=staged.digest,
            execution=how,
            deadline=Deadline(run, None),
            group=Group(run, 1),
        )
        return cls(Fit(task, run, Meter(run.events, {"train": (1, 1.0)})), how)

    def cut(self, epoch: int) -> list[Indices]:
        """Return the batches of an epoch."""
        return batches(self.fit.visits(epoch), self.fit.task.plan.batch_size)
