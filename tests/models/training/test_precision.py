"""Whole runs in less than fp32: they learn, and an interruption changes no bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.system.run_dir import DONE, STOPPED
from models.data.sources import Indices
from models.training import loop
from tests.models.running import go, outcome
from tests.models.staging import events, request, striped


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return striped(tmp_path_factory.mktemp("stripes") / "data", train=24, val=8)


@pytest.mark.parametrize(
    ("precision", "architecture"),
    [
        ("bf16", "lenet"),
        ("fp16", "lenet"),
        pytest.param("fp16", "mobilenet_v3_small", marks=pytest.mark.gpu),
        pytest.param("bf16", "resnet18", marks=pytest.mark.gpu),
        pytest.param("auto", "resnet18", marks=pytest.mark.gpu),
    ],
)
def test_interrupted_anywhere_it_ends_with_the_same_bits(
    tmp_path: Path,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    architecture: str,
) -> None:
    """For fp16 the scale of the gradients and its growth are part of the state."""
    monkeypatch.setattr(torch.amp.GradScaler, "get_growth_interval", lambda _: 3, raising=True)
    numbers = {"epochs": 4, "batch_size": 16, "image_size": 32}
    config: dict[str, Any] = {
        "architecture": architecture,
        "weights": "none",
        "hyperparameters": numbers,
        "precision": precision,
    }
    straight = request(tmp_path / "straight", dataset, **config)
    assert go(straight) == DONE
    plan = events(straight, "plan")[-1]["plan"]
    assert plan["precision"]["value"] == precision or precision == "auto"
    broken = request(tmp_path / "broken", dataset, **config)
    plain, scales = loop.Loop.step, []

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        plain(stage, indices)
        scales.append(stage.gradients.scaler.get_scale())
        stage.fit.run.stopping = True

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "step", one_step)
        while (code := go(broken)) == STOPPED:
            pass
    assert code == DONE
    assert outcome(broken) == outcome(straight)
    assert outcome(straight)[1]["best"]["val_accuracy"] > 0.7 or architecture != "lenet"
    if precision == "fp16":
        assert len(set(scales)) > 1  # Else a lost scale would go unnoticed.
