"""Small data sets, weights and a model for the tests of fits."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.system.run_dir import DONE
from models.networks import zoo
from models.weights import pretrained
from tests.models.running import go
from tests.models.staging import request, striped

NETWORK = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes to train on, to validate on and to test with, in `data`; the same, drawn."""
    folder = tmp_path_factory.mktemp("session")
    striped(folder / "data", train=24, val=12, test=4)
    striped(folder / "drawn", ["val"], train=24, val=12, test=4)
    return folder


@pytest.fixture(scope="module")
def weights_dir(folder: Path) -> Path:
    """Random weights with statistics that fit them, kept as if they were pretrained."""
    torch.manual_seed(0)
    model = zoo.build(NETWORK).train()
    with torch.no_grad():
        for _ in range(30):
            model(torch.randn(8, 3, 32, 32))
    save_file(model.state_dict(), folder / "random.safetensors")
    pretrained.add(NETWORK, folder / "random.safetensors", folder / "weights")
    return folder / "weights"


@pytest.fixture(scope="module")
def artefact(folder: Path) -> Path:
    """What a whole run published."""
    numbers = {"epochs": 3, "batch_size": 16}
    run_dir = request(
        folder / "run", folder / "data", architecture="lenet", hyperparameters=numbers
    )
    assert go(run_dir) == DONE
    return run_dir / "result"
