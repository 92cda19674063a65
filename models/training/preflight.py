"""Disk preflight: the space a run needs, computed and checked before the first image."""

from pathlib import Path

from torch import nn

from core.system.cache_dir import trim
from core.system.disk import free_bytes
from core.system.run_dir import RunDir
from models.planning import disk_needs
from models.planning.plan import Plan
from topwork.errors import DiskFull


def needed(model: nn.Module, head: str, plan: Plan) -> int:
    """Return the bytes that checkpoints and result of a run take at most at the same time."""
    alone = plan.mode == "head" and plan.then is None
    trained = model.get_submodule(head) if alone else model
    copies = disk_needs.copies_in_checkpoint(plan)
    return disk_needs.of_run(_bytes(trained), _bytes(model), copies)


def checkpoint_bytes(model: nn.Module, plan: Plan) -> int:
    """Return the size of one checkpoint."""
    return _bytes(model) * disk_needs.copies_in_checkpoint(plan)


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
