"""Whole runs in less than fp32: they learn, and an interruption changes no bit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.rundir import DONE, STOPPED, supervise
from models.train import train
from models.training import loop
from tests.models.staging import events, request, stage, stripes

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
ON_GPU = [pytest.mark.gpu, CUDA]


@pytest.fixture(autouse=True)
def _settled_torch() -> Iterator[None]:
    """Leave torch's process-wide switches as they were."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("across", "down")
    images = [stripes("train", name, number) for name in names for number in range(24)]
    images += [stripes("val", name, number) for name in names for number in range(8)]
    return stage(tmp_path_factory.mktemp("stripes") / "data", images)


def go(run_dir: Path) -> int:
    return supervise(train, [str(run_dir)], resumable=True)


def outcome(run_dir: Path) -> tuple[Any, Any]:
    card = json.loads((run_dir / "result" / "card.json").read_text())
    assert card["exact"] == {"value": True, "reason": []}
    return card["files"], json.loads((run_dir / "result" / "history.json").read_text())


@pytest.mark.parametrize(
    ("precision", "architecture"),
    [
        ("bf16", "lenet"),
        ("fp16", "lenet"),
        pytest.param("fp16", "mobilenet_v3_small", marks=ON_GPU),
        pytest.param("bf16", "resnet18", marks=ON_GPU),
        pytest.param("auto", "resnet18", marks=ON_GPU),
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
    plain, scales = loop.Fit.one_step, []

    def one_step(fit: loop.Fit, indices: loop.Indices) -> None:
        plain(fit, indices)
        scales.append(fit.scaler.get_scale())
        fit.run.stopping = True

    with monkeypatch.context() as patch:
        patch.setattr(loop.Fit, "one_step", one_step)
        while (code := go(broken)) == STOPPED:
            pass
    assert code == DONE
    assert outcome(broken) == outcome(straight)
    assert outcome(straight)[1]["best"]["val_accuracy"] > 0.7 or architecture != "lenet"
    if precision == "fp16":
        assert len(set(scales)) > 1  # Else a lost scale would go unnoticed.
