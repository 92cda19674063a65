"""On what and how the arithmetic runs: decided in one place, as data with a reason."""

import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.machine import cores
from models.plan import Plan

SMALL_STEP = 0.2
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Execution:
    """Device, precision of the steps (weights stay fp32), memory layout, threads, and why."""

    device: str
    precision: str
    channels_last: bool
    threads: int
    deterministic: bool
    reason: str

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device and into the layout."""
        model = model.to(self.device)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        return model

    def put(self, batch: Tensor) -> Tensor:
        """Move inputs to the device and images into the layout."""
        batch = batch.to(self.device, non_blocking=True)
        if self.channels_last and batch.dim() == 4:  # noqa: PLR2004 - images, (n, 3, h, w).
            batch = batch.contiguous(memory_format=torch.channels_last)
        return batch

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which forward passes run."""
        lower = self.precision != "fp32"
        return torch.autocast(self.device, dtype=_DTYPES[self.precision], enabled=lower)

    def use_threads(self, gigaops: float) -> None:
        """Set the threads of the coming work by the multiply-adds (10**9) of one of its steps.

        Splitting a small step costs more than it saves, and with other processes on the same
        cores threads that wait for each other make it many times slower.
        """
        torch.set_num_threads(self.threads if gigaops > SMALL_STEP else 1)

    def facts(self) -> dict[str, Any]:
        """Return what exact repetition depends on, for the checkpoint and the card."""
        return {**asdict(self), "torch": torch.__version__, "machine": _machine(self.device)}

    def explained(self) -> dict[str, Any]:
        """Return the form of the plan: the value and its reason."""
        value = self.facts()
        return {"value": value, "reason": value.pop("reason")}


def choose(plan: Plan, *, deterministic: bool) -> Execution:
    """Decide for this machine and set the process up accordingly; call before the first tensor."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = max(1, cores() // plan.devices)
    torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # Costs time, hides bugs.
        torch.backends.cudnn.benchmark = False
    reason = "channels_last was faster for every network measured (performance.md 2)"
    return Execution(device, plan.precision, True, threads, deterministic, reason)  # noqa: FBT003 - read with the fields above.


def _machine(device: str) -> str:
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return torch.backends.cpu.get_cpu_capability()
