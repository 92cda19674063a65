"""Datasets at the edge of what a head on a frozen trunk can be trained on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.system.run_dir import DONE
from models.networks import zoo
from models.weights import pretrained
from tests.models.running import go, read
from tests.models.staging import events, png, request, stage

NETWORK = "mobilenet_v3_small"
STRATEGIES = ["auto", "head", "gradual", "full"]


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, kept as if they were pretrained."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(zoo.build(NETWORK).state_dict(), folder / "random.safetensors")
    pretrained.add(NETWORK, folder / "random.safetensors", folder)
    return folder


def picture(number: int, side: int = 8) -> bytes:
    """Noise, another for each number."""
    rng = np.random.default_rng(number)
    return png(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def ends(folder: Path, data: Path, weights_dir: Path, strategy: str, **config: Any) -> Path:
    """Train to a good end with finite numbers; return the folder of the run."""
    numbers = {"image_size": 32, "epochs": 2}
    run_dir = request(
        folder / "run",
        data,
        weights_dir,
        architecture=NETWORK,
        strategy=strategy,
        hyperparameters=numbers,
        **config,
    )
    assert go(run_dir) == DONE, (run_dir / "error.json").read_text()
    for value in load_file(run_dir / "result" / "weights.safetensors").values():
        assert bool(value.isfinite().all())
    json.loads((run_dir / "result" / "card.json").read_text(), parse_constant=lambda _: 1 / 0)
    return run_dir


def codes(run_dir: Path) -> set[str]:
    return {note["code"] for note in events(run_dir, "note")}


def test_a_thousand_classes(tmp_path: Path, weights_dir: Path) -> None:
    """As many as the pretrained head has, so nothing but its name tells the new one."""
    names = [f"c{number:04}" for number in range(1000)]
    images = [("train", name, picture(number)) for number, name in enumerate(names)]
    images += [("val", name, picture(number)) for number, name in enumerate(names[:40])]
    run_dir = ends(tmp_path, stage(tmp_path / "data", images), weights_dir, "head")
    card = read(run_dir, "card.json")
    assert card["classes"] == names
    weights = load_file(run_dir / "result" / "weights.safetensors")
    before = load_file(weights_dir / f"{NETWORK}.safetensors")
    layer = f"{card['head']['layers'][0]}.weight"
    assert weights[layer].shape == before[layer].shape
    assert not torch.equal(weights.pop(layer), before[layer])
    assert torch.equal(weights["features.0.0.weight"], before["features.0.0.weight"])
    assert "class_missing_in_val" in codes(run_dir)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_images_of_one_pixel(tmp_path: Path, weights_dir: Path, strategy: str) -> None:
    images = [
        (split, f"class{number % 2}", picture(number, side=1))
        for split, count in (("train", 40), ("val", 20))
        for number in range(count)
    ]
    data = stage(tmp_path / "data", images)
    run_dir = ends(tmp_path, data, weights_dir, strategy, selection_metric="loss")
    stages = {"auto": ["head", "full"], "gradual": ["head", "gradual"]}.get(strategy, [strategy])
    told = dict.fromkeys(event["stage"] for event in events(run_dir, "epoch"))
    assert list(told) == stages


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_image_of_each_class(
    tmp_path: Path, weights_dir: Path, strategy: str, *, validated: bool
) -> None:
    splits = ["train", "val"] if validated else ["train"]
    images = [(split, f"class{number}", picture(number)) for split in splits for number in range(3)]
    run_dir = ends(tmp_path, stage(tmp_path / "data", images), weights_dir, strategy)
    told = dict.fromkeys(event["stage"] for event in events(run_dir, "epoch"))
    assert next(iter(told)) == ("full" if strategy == "full" else "head")
    assert ("gradual" in told) is (strategy == "gradual")
    if strategy == "auto":  # So few images could not tell whether more training is better.
        assert list(told) == ["head"]
    assert ("no_validation_images" in codes(run_dir)) is not validated
    assert read(run_dir, "card.json")["classes"] == ["class0", "class1", "class2"]
