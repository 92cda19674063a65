"""The workload of a stage: what it does many times, and the precisions that can do it."""

from dataclasses import dataclass, replace

from models.compute import openvino
from models.compute.execution import Execution, grouped, has_bf16
from models.data import augment
from models.data.dataset import StagedDataset
from models.inference.network import Network
from models.planning.augmentation import VIEWS
from models.planning.estimate import ASSUMED_GIGAFLOPS
from models.planning.plan import Plan

WORTH_SECONDS = 15.0  # Estimated work below which nothing is measured.
WORTH_PASSES = 5.0  # The same for passes, which have two candidates.
WORTH_COMPILING = 600.0  # Estimated passes below which no compilation pays.


@dataclass(frozen=True)
class Workload:
    """Training steps, or forward passes of a frozen trunk."""

    plan: Plan
    network: Network
    dataset: StagedDataset

    @property
    def forward(self) -> bool:
        """Tell whether the trunk only runs forward."""
        return self.plan.mode == "head"

    @property
    def gigaops(self) -> float:
        """Operations of one image in 10**9; a training step counts as three forward passes."""
        architecture = self.network.architecture
        size = (self.plan.image_size / architecture.input_size) ** 2
        return (2 if self.forward else 6) * architecture.gigaops * size

    @property
    def images(self) -> int:
        """Images that pass, those of every epoch or view counted."""
        views = VIEWS if augment.planned(self.plan) else 1
        times = views if self.forward else self.plan.epochs
        return times * len(self.dataset.splits["train"])

    @property
    def seconds(self) -> float:
        """Rough estimate of the whole work."""
        return self.images * self.gigaops / ASSUMED_GIGAFLOPS

    @property
    def worth_measuring(self) -> bool:
        """Tell whether there is so much work that measuring pays."""
        return self.seconds >= (WORTH_PASSES if self.forward else WORTH_SECONDS)

    @property
    def compiler(self) -> str | None:
        """Version of OpenVINO where compiling a trunk may pay; None where it cannot."""
        return openvino.version() if self.forward and self.seconds >= WORTH_COMPILING else None

    def candidates(self, usual: Execution) -> list[Execution]:
        """Return every way to do it: fp32 in channels_last first, then the likeliest.

        Time may run out before the last.
        """
        low = ["bf16"] if has_bf16(usual.device) else ["fp16"] * (usual.device == "cuda")
        if self.forward:  # In channels_last, as NCHW never won a pass.
            compiled = ["openvino"] if usual.device == "cpu" and self.compiler else []
            return [
                replace(usual, precision=precision, channels_last=True, engine=engine)
                for engine in ["torch", *compiled]
                for precision in ["fp32", *low]
            ]
        apart = [(precision, True) for precision in low if grouped(self.network.model)]
        return [
            replace(usual, precision=precision, grouped_fp32=fp32, channels_last=layout)
            for layout in (True, False)
            for precision, fp32 in [("fp32", False), *apart, *((kind, False) for kind in low)]
        ]
