"""What a checkpoint of the training loop holds, and how a run goes on from it."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import IntegrityError
from core.failpoints import hit
from core.rundir import RunDir
from models.plan import Plan
from models.training import checkpoint
from models.training.checkpoint import Tensors
from models.training.execution import Execution

Key = dict[str, Any]


@dataclass
class Progress:
    """Everything a resumed run must know besides tensors."""

    epoch: int = 1
    step: int = 0  # Inside the epoch.
    seen: int = 0  # Images of the epoch so far.
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    scaler: dict[str, Any] = field(default_factory=dict)  # Of the gradients in fp16.
    inexact: list[str] = field(default_factory=list)  # Why a resume could not be bit-identical.


def key(plan: Plan, digest: str, seed: int, execution: Execution) -> Key:
    """Return what a checkpoint must share (`spec`) and should share (`machine`) with the run."""
    spec = json.dumps([plan.to_json(), digest, seed], sort_keys=True)
    return {"spec": hashlib.sha256(spec.encode()).hexdigest(), "machine": execution.facts()}


def save(
    run: RunDir,
    step: int,
    key: Key,
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    total: Tensor,
    best: Tensors,
) -> None:
    """Write the state of the loop; the best weights have a file of their own, written once."""
    best_file = None
    if best:
        best_file = f"best-{state['best']['epoch']:05d}.safetensors"
        if not (run.checkpoint / best_file).exists():
            checkpoint.write(run.checkpoint / best_file, best, {"spec": key["spec"]})
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    tensors["total"] = total
    hit("checkpoint.between_files")
    full = {"progress": state, "key": key, "best_file": best_file}
    checkpoint.save(run.checkpoint, step, tensors, full)


def load(
    run: RunDir, key: Key, model: nn.Module, optimizer: torch.optim.Optimizer, total: Tensor
) -> tuple[Progress, Tensors]:
    """Put the newest usable checkpoint into the objects; return counters and best weights."""
    for path in checkpoint.newest_first(run.checkpoint):
        try:
            tensors, state = checkpoint.read(path)
            name = state["best_file"]
            best = checkpoint.read(run.checkpoint / name)[0] if name else {}
        except IntegrityError as error:
            run.events.note("checkpoint_damaged", f"An older state is used: {error.message}")
            path.unlink()
            continue
        if state["key"]["spec"] != key["spec"]:
            path.unlink()
            continue
        progress = Progress(**state["progress"])
        _note_differences(run, progress, state["key"]["machine"], key["machine"])
        _restore(tensors, model, optimizer)
        total.copy_(tensors["total"])
        _drop_best_files(run, name)
        return progress, best
    _drop_best_files(run, None)
    return Progress(), {}


def _drop_best_files(run: RunDir, kept: str | None) -> None:
    """Remove best weights that were written after the checkpoint, as they will be written anew."""
    for path in run.checkpoint.glob("best-*.safetensors"):
        if path.name != kept:
            path.unlink()


def _restore(tensors: Tensors, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model.load_state_dict({name: tensors[f"model.{name}"] for name in model.state_dict()})
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


def _note_differences(run: RunDir, progress: Progress, then: Key, now: Key) -> None:
    """Say so where the resumed run cannot repeat the interrupted one bit for bit."""
    changed = [
        f"{name}: {then.get(name)} -> {now[name]}" for name in now if then.get(name) != now[name]
    ]
    if changed:
        progress.inexact.append("; ".join(changed))
        run.events.note("resumed_inexactly", f"Resumed under other conditions: {changed}.")
