"""A frozen trunk compiled by OpenVINO for the CPU: an extra that pays where images are many."""

import sys
from importlib import metadata, util
from typing import Any

import torch
from torch import Tensor, nn

PART = 8  # Images at a time: what depthwise networks keep between their layers fits the cache.
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def version() -> str | None:
    """Return the version of OpenVINO, None where it is not installed."""
    return metadata.version("openvino") if util.find_spec("openvino") else None


class Compiled(nn.Module):
    """A trunk that is compiled for the size of the first images it meets.

    Args:
        trunk: Traceable, in eval mode, on the CPU; only read.
        precision: "fp32" or "bf16", of the multiplications.
        threads: To run in.
    """

    def __init__(self, trunk: nn.Module, *, precision: str, threads: int) -> None:
        super().__init__()
        self.trunk, self.precision, self.threads = trunk, precision, threads
        self._run: Any = None

    def forward(self, images: Tensor) -> Tensor:
        """Return the float32 features of images (n, 3, h, w), all of one size.

        Raises:
            RuntimeError: It cannot be compiled.
        """
        if self._run is None:
            self._run = self._compiled(images)
        starts = range(0, len(images), PART)
        return torch.cat([self._part(images[start : start + PART]) for start in starts])

    def _part(self, images: Tensor) -> Tensor:
        lack = PART - len(images)
        filled = torch.cat([images, images[-1:].expand(lack, -1, -1, -1)]) if lack else images
        outputs = self._run.infer([filled.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(outputs[0].copy())[: len(images)]

    def _compiled(self, images: Tensor) -> Any:
        # Its converter tells Google Analytics of every use, unless this package cannot be imported.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None forbids an import.
        import openvino  # noqa: PLC0415 - an extra, and half a second.

        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            with torch.inference_mode(mode=False), torch.no_grad():  # It takes plain tensors only.
                example = torch.zeros(PART, *images.shape[1:])
                converted = openvino.convert_model(torch.export.export(self.trunk, (example,)))
            return openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
        except Exception as error:
            raise RuntimeError("OpenVINO cannot compile this network.") from error
