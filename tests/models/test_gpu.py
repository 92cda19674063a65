"""Whole runs on a GPU; what they publish is served by CPUs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from core.system.run_dir import DONE
from models.data.dataset import Staged
from models.inference.classifier import Classifier
from models.networks import zoo
from models.weights import pretrained
from tests.models.running import go, read
from tests.models.staging import events, request, stage, stripes

pytestmark = pytest.mark.gpu
NETWORK = "resnet18"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [
        stripes(split, name, number)
        for split, size in (("train", 32), ("val", 16))
        for name in ("across", "down")
        for number in range(size)
    ]
    return stage(tmp_path_factory.mktemp("stripes") / "data", images)


def order(folder: Path, dataset: Path, size: int, **config: Any) -> Path:
    weights = folder.parent / "weights"
    weights.mkdir(exist_ok=True)
    torch.manual_seed(0)
    save_file(zoo.build(NETWORK).state_dict(), folder.parent / "random.safetensors")
    pretrained.add(NETWORK, folder.parent / "random.safetensors", weights)
    numbers = {"epochs": 2, "batch_size": 64, "image_size": size}
    return request(
        folder, dataset, weights, architecture=NETWORK, hyperparameters=numbers, **config
    )


@pytest.mark.parametrize("strategy", ["head", "full", "gradual"])
def test_what_a_gpu_trained_a_cpu_serves(tmp_path: Path, dataset: Path, strategy: str) -> None:
    run_dir = order(tmp_path / "run", dataset, 64, strategy=strategy)
    assert go(run_dir) == DONE
    assert read(run_dir, "card.json")["plan"]["execution"]["value"]["device"] == "cuda"
    classifier = Classifier.from_artefact(run_dir / "result")
    rows = (run_dir / "result" / "predictions.jsonl").read_text().splitlines()
    told = {row["path"]: row["label"] for row in map(json.loads, rows)}
    staged = Staged(dataset)
    for sample in staged.splits["val"]:
        [served] = classifier.forward([classifier.decode(staged.read(sample))])
        assert classifier.rank(served, 1)["label"] == told[sample.path]
    staged.close()
    assert len(told) == 32


def test_a_step_that_does_not_fit_is_taken_in_parts(tmp_path: Path, dataset: Path) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    run_dir = order(tmp_path / "run", dataset, 224, strategy="full", precision="fp32")
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1e9 / total))  # A step asks for more.
    try:
        assert go(run_dir) == DONE
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert "batch_halved" in [note["code"] for note in events(run_dir, "note")]
