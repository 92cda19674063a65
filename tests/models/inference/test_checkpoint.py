"""Other programs' checkpoints with a head of their own become bundles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.inference import artefact, checkpoint
from models.inference.classifier import Classifier
from models.inference.network import Network
from models.networks import zoo
from models.weights import bundle
from topwork.errors import ArchitectureUnknown, TopworkError, WeightsMismatch

CLASSES = ["ant", "bee", "cicada"]


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return zoo.build("squeezenet1_1", len(CLASSES)).eval()


def unpacked(file: Path, folder: Path) -> Path:
    folder.mkdir()
    bundle.unpack(file, folder)
    return folder


@pytest.mark.parametrize("form", ["state", "wrapped", "safetensors"])
def test_a_checkpoint_answers_as_its_network(
    network: torch.nn.Module, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "best.pth"
    state = network.state_dict()
    if form == "safetensors":
        save_file(state, file)
    else:
        parallel = {f"module.{name}": value for name, value in state.items()}
        torch.save(state if form == "state" else {"epoch": 3, "state_dict": parallel}, file)
    checkpoint.make(file, "SqueezeNet-1.1", CLASSES, tmp_path / "model.zip")
    folder = unpacked(tmp_path / "model.zip", tmp_path / "model")
    classifier = Classifier.from_artefact(folder)
    assert [label.name for label in classifier.labels] == CLASSES
    crop = np.random.default_rng(4).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    with torch.inference_mode():
        batch = classifier.preprocess.normalise(torch.from_numpy(crop[None]))
        expected = network(batch).double().softmax(1)
    np.testing.assert_allclose(classifier.forward([crop]), expected.numpy(), atol=1e-6)
    assert Network.from_artefact(folder, "import").heads.main == "classifier.1"


def test_what_does_not_fit_is_refused(network: torch.nn.Module, tmp_path: Path) -> None:
    file, target = tmp_path / "best.pth", tmp_path / "model.zip"
    torch.save(network.state_dict(), file)
    cases: list[tuple[str, list[str], type[TopworkError]]] = [
        ("squeezenet1_1", ["ant", "bee"], WeightsMismatch),
        ("squeezenet1_0", CLASSES, WeightsMismatch),
        ("squeezenet9", CLASSES, ArchitectureUnknown),
    ]
    for architecture, classes, error in cases:
        with pytest.raises(error):
            checkpoint.make(file, architecture, classes, target)
        assert not target.exists()


def test_heads_that_only_training_uses_may_be_there_or_not(tmp_path: Path) -> None:
    """Networks that were built from published weights have them; others need not."""
    torch.manual_seed(4)
    for auxiliary in (True, False):
        whole = zoo.build("googlenet", len(CLASSES), auxiliary=auxiliary)
        file, target = tmp_path / f"{auxiliary}.pth", tmp_path / f"{auxiliary}.zip"
        torch.save(whole.state_dict(), file)
        checkpoint.make(file, "googlenet", CLASSES, target)
        card = artefact.read_card(unpacked(target, tmp_path / f"{auxiliary}"))
        assert card["arguments"]["aux_logits"] is auxiliary
        assert bool(card["head"]["auxiliary"]) is auxiliary
