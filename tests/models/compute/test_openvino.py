"""Trunks compiled by OpenVINO: the same features, the same bits each time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from models.compute import openvino
from models.compute.execution import has_bf16

# To import it would already tell its makers.
pytestmark = pytest.mark.skipif(openvino.version() is None, reason="the extra is not installed")


@pytest.fixture(scope="module")
def trunk() -> nn.Module:
    """Ordinary and depthwise convolutions with what usually lies between them."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.Hardswish(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.ReLU6(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers).eval()


def compiled(trunk: nn.Module, precision: str = "fp32") -> openvino.Compiled:
    return openvino.Compiled(trunk, precision=precision, threads=1)


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-4), ("bf16", 0.03)])
@pytest.mark.parametrize("images", [1, openvino.PART, openvino.PART + 3])
def test_features_are_those_of_torch(
    trunk: nn.Module, precision: str, close: float, images: int
) -> None:
    if precision == "bf16" and not has_bf16("cpu"):
        pytest.skip("this CPU has no bf16 units")
    batch = torch.randn(images, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted, got = trunk(batch), compiled(trunk, precision)(batch)
    assert got.dtype == torch.float32
    apart = (got - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert float(apart.max()) < close


def test_each_compilation_gives_the_same_bits(trunk: nn.Module) -> None:
    batch = torch.randn(openvino.PART, 3, 64, 64)
    with torch.inference_mode():
        first, second = compiled(trunk)(batch), compiled(trunk)(batch)
        both = compiled(trunk)(torch.cat([batch.flip(0), batch]))
    assert torch.equal(first, second)
    assert torch.equal(both[openvino.PART :], first)


class Undecided(nn.Module):
    """A network that looks at its values."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.sum() > 0 else -images


def test_what_cannot_be_compiled_is_an_error_of_one_kind() -> None:
    with pytest.raises(RuntimeError, match="cannot compile"):
        compiled(Undecided())(torch.zeros(1, 3, 4, 4))


TELLS = """
import sys, torch
from models.compute.openvino import Compiled
Compiled(torch.nn.Flatten(), precision="fp32", threads=1)(torch.zeros(1, 3, 4, 4))
print(sys.modules["openvino_telemetry"])
"""


def test_nobody_is_told(tmp_path: Path) -> None:
    """By default OpenVINO's converter keeps an id in the home folder and reports to Google."""
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-W", "error", "-c", TELLS]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert not list(tmp_path.iterdir())


def test_without_the_extra_there_is_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert openvino.version()
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert openvino.version() is None
