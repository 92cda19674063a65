"""Resume: the content of a checkpoint of the training loop, and how a run goes on from it."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.system.failpoints import hit
from core.system.run_dir import RunDir
from models.compute.execution import Execution
from models.networks.loading import compare, load_tensors
from models.planning.plan import Plan
from models.training import checkpoint
from models.training.checkpoint import Tensors
from topwork.errors import IntegrityError, WeightsMismatch

SAVE_SECONDS = 60.0
SAVE_SHARE = 50  # A save may cost at most one part in so many of the time.
FIRST_SAVE, WRITE_RATE = 0.05, 4e8  # Seconds, and bytes a second, until a save was measured.
Key = dict[str, Any]


@dataclass
class Progress:
    """Everything a resumed run must know besides tensors."""

    epoch: int = 1
    step: int = 0  # Inside the epoch.
    seen: int = 0  # Images of the epoch so far.
    parts: int = 1  # Into which a batch is cut, since memory ran out.
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    scaler: dict[str, Any] = field(default_factory=dict)  # Of the gradients in fp16.
    inexact: list[str] = field(default_factory=list)  # Why a resume could not be bit-identical.

    def noted(self, plan: Plan) -> Plan:
        """Return the plan with what only showed while it was carried out."""
        if self.parts == 1:
            return plan
        words = f"each batch was taken in {self.parts} parts, as memory ran out"
        return plan.revised("batch_size", plan.batch_size, f"{plan.reasons['batch_size']}; {words}")


def key(plan: Plan, digest: str, seed: int, execution: Execution) -> Key:
    """Return what a checkpoint must share (`spec`) and should share (`machine`) with the run."""
    spec = json.dumps([plan.stage, plan.to_json(), digest, seed], sort_keys=True)
    machine = execution.facts() | {"topwork": metadata.version("topwork")}
    return {"spec": hashlib.sha256(spec.encode()).hexdigest(), "machine": machine}


class Checkpoints:
    """Those of one stage: at an epoch's end or every minute, at most 2 % of the time.

    They hold the models, the optimiser's moments and `total`, the sum of the epoch's losses, and
    take about `size` bytes each.
    """

    def __init__(
        self,
        run: RunDir,
        folder: Path,
        key: Key,
        models: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        total: Tensor,
        size: int,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.run, self.folder, self.key = run, folder, key
        self.models, self.optimizer, self.total = models, optimizer, total
        self.saved, self.seconds = time.monotonic(), FIRST_SAVE + size / WRITE_RATE

    def due(self, *, inside: bool) -> bool:
        """Tell whether it is time to save, `inside` an epoch or at its end."""
        wait = SAVE_SHARE * self.seconds
        return time.monotonic() - self.saved >= (max(SAVE_SECONDS, wait) if inside else wait)

    def save(self, step: int, progress: Progress, best: Tensors) -> None:
        """Write the state of the loop; the best weights have a file of their own, written once."""
        began = time.monotonic()
        best_file = best_seal = None
        if best:
            best_file = f"best-{progress.best['epoch']:05d}.safetensors"
            if not (self.folder / best_file).exists():
                checkpoint.write(self.folder / best_file, best, {"spec": self.key["spec"]})
            best_seal = checkpoint.seal(self.folder / best_file)
        tensors = {
            f"{which}.{name}": value
            for which, model in self.models.items()
            for name, value in model.state_dict().items()
        }
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        tensors["total"] = self.total
        hit("checkpoint.between_files")
        state = {"progress": asdict(progress), "key": self.key, "best_file": best_file}
        checkpoint.save(self.folder, step, tensors, {**state, "best_seal": best_seal})
        self.saved = time.monotonic()
        self.seconds = self.saved - began

    def load(self) -> tuple[Progress, Tensors] | None:
        """Put the newest usable one into the objects; return counters and best weights."""
        usable = newest(self.run, self.folder, self.key, self.models)
        if usable is None:
            return None
        tensors, state, best = usable
        progress = Progress(**state["progress"])
        note_differences(self.run, progress, state["key"]["machine"], self.key["machine"])
        _restore(tensors, self.models, self.optimizer)
        self.total.copy_(tensors["total"])
        return progress, best


def newest(
    run: RunDir, folder: Path, key: Key, models: Mapping[str, nn.Module]
) -> tuple[Tensors, dict[str, Any], Tensors] | None:
    """Return tensors, state and best weights of the newest usable checkpoint; drop what is not.

    Usable is what is whole, of this very training, and fits the models name by name.
    """
    for path in checkpoint.newest_first(folder):
        try:
            tensors, state = checkpoint.read(path)
            if state["key"]["spec"] != key["spec"]:
                path.unlink()
                continue
            best = _best(folder, state)
            for which, model in models.items():
                compare(model.state_dict(), _of(which, tensors))
            if best:
                compare(models["model"].state_dict(), best)
        except (IntegrityError, WeightsMismatch) as error:
            run.events.note("checkpoint_damaged", f"An older state is used: {error.message}")
            path.unlink()
            continue
        _drop_best_files(folder, state["best_file"])
        return tensors, state, best
    _drop_best_files(folder, None)
    return None


def _of(which: str, tensors: Tensors) -> Tensors:
    """Return the tensors of one model of a checkpoint, under its own names."""
    prefix = f"{which}."
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _best(folder: Path, state: dict[str, Any]) -> Tensors:
    """Return the best weights that a checkpoint names: those very ones, by their hash."""
    name = state["best_file"]
    if name is None:
        return {}
    if checkpoint.seal(folder / name) != state["best_seal"]:
        raise IntegrityError(f"{name} is not the file that the checkpoint names.")
    return checkpoint.read(folder / name)[0]


def _drop_best_files(folder: Path, kept: str | None) -> None:
    """Remove best weights that were written after the checkpoint, as they will be written anew."""
    for path in folder.glob("best-*.safetensors"):
        if path.name != kept:
            path.unlink()


def _restore(
    tensors: Tensors, models: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    for which, model in models.items():
        load_tensors(model, _of(which, tensors))
    values = [value for group in optimizer.param_groups for value in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, saved in tensors.items():
        if name.startswith("optimizer."):
            _, number, moment = name.split(".")
            moments.setdefault(int(number), {})[moment] = _laid_out(saved, values[int(number)])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _laid_out(moment: Tensor, value: Tensor) -> Tensor:
    """Give a moment the memory layout of its weights: fused optimisers walk both as they lie."""
    if moment.shape != value.shape:
        return moment
    return torch.empty_like(value, device="cpu").copy_(moment)


def note_differences(run: RunDir, progress: Progress, then: Key, now: Key) -> None:
    """Say so where the resumed run cannot repeat the interrupted one bit for bit."""
    changed = [
        f"{name}: {then.get(name)} -> {now[name]}" for name in now if then.get(name) != now[name]
    ]
    if changed:
        progress.inexact.append("; ".join(changed))
        run.events.note("resumed_inexactly", f"Resumed under other conditions: {changed}.")
