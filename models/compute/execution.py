"""Device, precision and memory layout of a run, decided in one place with a reason."""

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.system.machine import cores
from models.compute import openvino
from models.compute.openvino import Compiled
from models.compute.transfer import sent
from models.planning.plan import Plan
from models.planning.rules import GIVEN

SMALL_STEP = 0.2
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_IMAGES = 4  # Dimensions of a batch of images, (n, 3, h, w).
_GROUPS = 6  # Place of `groups` among the arguments of a convolution.
_TRIM, _MMAP, _KEPT_BYTES = -1, -3, 1 << 30  # Two numbers of glibc's mallopt(3), and their value.


@dataclass(frozen=True)
class Execution:
    """Device, arithmetic of the steps (weights stay fp32), memory layout, threads, and why.

    With `grouped_fp32` convolutions in groups run in fp32 inside bf16 or fp16 steps: in bf16 their
    gradients take most of the step on a CPU. `engine` runs a frozen trunk, steps are torch's own.
    `trunk` tells, for a head on features, in what arithmetic the features were computed.
    """

    device: str
    precision: str
    channels_last: bool
    threads: int
    deterministic: bool
    reason: str
    grouped_fp32: bool = False
    engine: str = "torch"
    trunk: str = ""

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device and into the layout."""
        model = model.to(self.device)
        return model.to(memory_format=self._layout)

    def put(self, batch: Tensor) -> Tensor:
        """Move inputs to the device and images into the layout."""
        batch = sent(batch, self.device)
        return batch.contiguous(memory_format=self._layout) if batch.dim() == _IMAGES else batch

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Open the context in which forward passes run."""
        lower = self.precision != "fp32"
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                torch.autocast(self.device, dtype=_DTYPES[self.precision], enabled=lower)
            )
            if lower and self.grouped_fp32:
                stack.enter_context(_GroupedInFp32(self.device))
            yield

    def scaler(self) -> torch.amp.GradScaler:
        """Return what keeps small gradients above the least fp16 number; else it does nothing."""
        return torch.amp.GradScaler(self.device, enabled=self.precision == "fp16")

    def running(self, trunk: nn.Module) -> nn.Module:
        """Return a frozen trunk that takes images anyhow and runs as decided here."""
        if self.engine == "openvino":
            return Compiled(trunk, precision=self.precision, threads=self.threads)
        return _Running(self, trunk)

    def for_head(self) -> "Execution":
        """Return how a head on features is trained: in fp32, as its steps are small anyway."""
        plain = replace(self, precision="fp32", grouped_fp32=False, engine="torch")
        return replace(plain, trunk=self.arithmetic)

    def serving(self) -> "Execution":
        """Return how the predictor runs: on the CPU, in fp32, by torch."""
        return replace(
            self,
            device="cpu",
            precision="fp32",
            channels_last=True,
            grouped_fp32=False,
            engine="torch",
        )

    @property
    def arithmetic(self) -> str:
        """What decides the bits of a forward pass on this machine, in words."""
        grouped = ", grouped convolutions fp32" if self.grouped_fp32 else ""
        if self.engine == "openvino":
            return f"{self.precision}, OpenVINO {openvino.version()}"
        return f"{self.precision}{grouped}, {'channels_last' if self.channels_last else 'NCHW'}"

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def use_threads(self, gigaops: float) -> None:
        """Set the threads of the coming work by the multiply-adds (10**9) of one of its steps.

        Splitting a small step costs more than it saves, and with other processes on the same
        cores threads that wait for each other make it many times slower.
        """
        torch.set_num_threads(self.threads_for(gigaops))

    def threads_for(self, gigaops: float) -> int:
        """Return the threads for steps of so many multiply-adds (10**9)."""
        return self.threads if gigaops > SMALL_STEP else 1

    def facts(self) -> dict[str, Any]:
        """Return what exact repetition depends on, for the checkpoint and the card."""
        facts = {**asdict(self), "torch": torch.__version__, "machine": machine(self.device)}
        # They make the pixels; torchvision also mixes images and builds networks.
        facts |= {"numpy": np.__version__, "pillow": PIL.__version__}
        facts["torchvision"] = metadata.version("torchvision")
        del facts["reason"]
        return facts

    def noted(self, plan: Plan) -> Plan:
        """Return the plan of a later stage with how that stage computes."""
        noted = plan.revised("precision", self.precision, self.reason)
        return noted.revised("execution", self.facts(), self.reason)

    def explained(self) -> dict[str, Any]:
        """Return the two entries of the plan: value and reason."""
        return {
            "precision": {"value": self.precision, "reason": self.reason},
            "execution": {"value": self.facts(), "reason": self.reason},
        }


class _GroupedInFp32(TorchFunctionMode):
    """Run convolutions in groups outside of autocast; the network itself is left alone."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = {**(kwargs or {})}
        if func is nn.functional.conv2d and len(args) > _GROUPS and args[_GROUPS] > 1:
            with torch.autocast(self.device, enabled=False):
                return func(args[0].float(), *args[1:], **named)
        return func(*args, **named)


class _Running(nn.Module):
    """A network inside the context of an execution."""

    def __init__(self, execution: Execution, model: nn.Module) -> None:
        super().__init__()
        self.execution, self.model = execution, model

    def forward(self, images: Tensor) -> Tensor:
        """Return what the network makes of the images, as float32."""
        with self.execution.autocast():
            result: Tensor = self.model(self.execution.put(images))
        return result.float()


def grouped(model: nn.Module) -> bool:
    """Tell whether a network has convolutions in groups."""
    return any(isinstance(one, nn.Conv2d) and one.groups > 1 for one in model.modules())


def choose(plan: Plan, *, deterministic: bool) -> Execution:
    """Decide for this machine and set the process up accordingly.

    Called before the first tensor, and again where a later stage starts afresh. Without a
    precision asked for, this is where `models.training.precision.benchmark` starts from.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = max(1, cores() // plan.devices)
    torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # Costs time, hides bugs.
    if device == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        # TF32 keeps 10 bits of each factor: not what somebody means who asks for fp32.
        loose = plan.precision != "fp32"
        torch.set_float32_matmul_precision("high" if loose else "highest")
        torch.backends.cudnn.allow_tf32 = loose
    reason = "channels_last was faster than NCHW for every network measured before"
    if plan.precision is not None:
        reason = f"{GIVEN}; {reason}"
    return Execution(device, plan.precision or "fp32", True, threads, deterministic, reason)  # noqa: FBT003 - read with the fields above.


def as_asked(usual: Execution, model: nn.Module) -> Execution:
    """Return how a precision asked for runs best: on a CPU, grouped convolutions in fp32."""
    if usual.precision == "fp32" or usual.device != "cpu" or not grouped(model):
        return usual
    words = f"grouped convolutions stay in fp32, as they are slow in {usual.precision}"
    return replace(usual, grouped_fp32=True, reason=f"{usual.reason}; {words}")


def keep_memory() -> None:
    """Tell glibc to keep freed memory: each step frees and asks for the same again.

    Handing it back costs a page fault for every 4 KiB of the next step. No effect elsewhere.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        for option in (_MMAP, _TRIM):
            libc.mallopt(option, _KEPT_BYTES)


def machine(device: str) -> str:
    """Return what the arithmetic runs on: the GPU's name, or the CPU's with its vector units."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    facts = torch.cpu.get_capabilities()
    units = torch.backends.cpu.get_cpu_capability()
    half = ", bf16 units" if has_bf16(device) else ""
    return f"{facts.get('cpu_name', 'CPU')} {units}{half}"


def has_bf16(device: str) -> bool:
    """Tell whether the device multiplies bf16 numbers itself; emulated they are slow."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    facts = torch.cpu.get_capabilities()
    return any(facts.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
