"""A fit: the network, data and arithmetic of one training, prepared before its first stage."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.system.progress import Meter
from core.system.run_dir import RunDir
from models.compute.execution import Execution, choose
from models.data import sources
from models.data.augment import Augmentation
from models.data.cache import Cache
from models.data.dataset import StagedDataset
from models.data.sources import Canvases
from models.inference.network import Network
from models.planning.plan import Plan
from models.planning.request import TrainRequest
from models.training import resume
from models.training.deadline import Deadline
from models.training.distributed import Group
from models.training.precision import benchmark
from models.training.precision.workload import Workload
from models.training.resume import Key, Progress


@dataclass(frozen=True)
class Fit:
    """A network, the images, how the stage at hand computes, and what watches over the run.

    `checkpoint` is the folder that the next attempt finds again.
    """

    run: RunDir
    request: TrainRequest
    dataset: StagedDataset
    network: Network
    execution: Execution
    cache: Cache
    meter: Meter
    deadline: Deadline
    group: Group
    checkpoint: Path

    @property
    def seed(self) -> int:
        """The seed of everything random."""
        return self.request.config.seed

    def measured(self, plan: Plan) -> "Fit":
        """Return the fit for a stage, with the arithmetic that is fastest for this one here.

        Whatever ran before: what is fast forward may be slow backward.
        """
        request = self.request
        memory = request.cache_dir / "execution" if request.cache_dir else None
        with self.group.in_turn():  # What rank 0 chooses the others find beside the checkpoints.
            usual = choose(plan, deterministic=request.config.deterministic)
            workload = Workload(plan, self.network, self.dataset)
            execution = benchmark.decide(usual, workload, self.run, memory)
        return replace(self, execution=execution)

    def canvases(self, plan: Plan, augmentation: Augmentation) -> Canvases:
        """Decode the training images for the random views of a stage."""
        return sources.canvases(
            self.cache,
            self.dataset,
            self.network.preprocess,
            side=plan.canvas,
            augmentation=augmentation,
            seed=self.seed,
            execution=self.execution,
        )

    def announce(self, plan: Plan) -> None:
        """Publish the plan again when it has become more definite."""
        self.run.events.emit("plan", plan=plan.to_json() | self.execution.explained())

    def key(self, plan: Plan) -> Key:
        """Return what a checkpoint of a stage must share with this fit to be gone on from.

        A name like `model:pets` can mean other weights by the next attempt. The digest of the
        images covers the names of their classes but not their order, which gives each its output.
        """
        order = json.dumps(self.dataset.classes)
        first = f"{self.dataset.digest} {self.network.lineage['sha256']} {order}"
        return resume.key(plan, first, self.seed, self.execution)


@dataclass(frozen=True)
class Trained:
    """What a fit leaves: the best weights in its network, the plan as carried out, its course.

    `unseen` holds logits of held-out splits by a head that had not seen the validation images,
    where the one in the network has.
    """

    fit: Fit
    plan: Plan
    progress: Progress
    unseen: Mapping[str, Tensor] | None = None

    @property
    def of_head(self) -> bool:
        """Whether what is kept is a head on a trunk that stayed as it was."""
        return self.plan.mode == "head" and self.progress.best.get("stage") == "head"

    def card(self) -> dict[str, Any]:
        """Return what `card.json` says besides the scores and the hashes of the files."""
        fit, network = self.fit, self.fit.network
        return {
            "architecture": network.architecture.name,
            "classes": network.classes,
            "head": {"layers": [network.heads.main], "auxiliary": []},
            "preprocess": network.preprocess.to_dict(),
            "dataset": {**fit.request.dataset_ref.model_dump(), "digest": fit.dataset.digest},
            "config": fit.request.config.model_dump(mode="json"),
            "plan": self.plan.to_json() | fit.execution.explained(),
            "software": {
                "topwork": metadata.version("topwork"),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": metadata.version("torchvision"),
            },
            "seed": fit.seed,
            "exact": {"value": not self.progress.inexact, "reason": self.progress.inexact},
            "lineage": network.lineage,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
