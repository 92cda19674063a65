"""Disk preflight: the space a run needs, computed and checked before the first image."""

from pathlib import Path

from torch import nn

from core.system.cache_dir import trim
from core.system.disk import free_bytes
from core.system.run_dir import RunDir
from models.planning.plan import Plan
from models.training.checkpoint import KEEP
from topwork.errors import DiskFull

MARGIN = 32 << 20  # Reports, logs and what else is small.
_MOMENTS = {"sgd": 1, "adamw": 2}  # Numbers that an optimiser keeps for each weight.


def needed(model: nn.Module, head: str, plan: Plan) -> int:
    """Return the bytes that checkpoints and result of a run take at most at the same time.

    These are the checkpoints that are kept, one being written, the best weights twice for the
    same reason, and the finished model.
    """
    trained = model.get_submodule(head) if plan.mode == "head" and plan.then is None else model
    checkpoints = (KEEP + 1) * checkpoint_bytes(trained, plan)
    return checkpoints + 2 * _bytes(trained) + _bytes(model) + MARGIN


def checkpoint_bytes(model: nn.Module, plan: Plan) -> int:
    """Return the size of one checkpoint: the weights, their average and the optimiser's moments."""
    return _bytes(model) * (1 + (plan.ema is not None) + _MOMENTS.get(plan.optimizer, 2))


def check(run: RunDir, need: int, spare_files: Path | None) -> None:
    """Compare with the free space; what can be computed again goes first.

    Args:
        run: The space of its earlier checkpoints counts as free, as they are replaced.
        need: Bytes.
        spare_files: A folder that is emptied before the run is refused.

    Raises:
        DiskFull: There is not enough.
    """
    there = sum(path.stat().st_size for path in run.checkpoint.rglob("*"))
    if free_bytes(run.path) + there < need and spare_files is not None:
        trim(spare_files, 0)
    free = free_bytes(run.path)
    if free + there < need:
        raise DiskFull(
            f"Checkpoints and result need {need / 1e6:.0f} MB of disk space;"
            f" {free / 1e6:.0f} MB are free."
        )


def _bytes(model: nn.Module) -> int:
    return sum(value.nbytes for value in model.state_dict().values())
