"""An artefact comes back as it was written, or not at all; and it is readable without Topwork."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from models.inference import artefact
from models.inference.classifier import Classifier
from models.inference.eager import Eager
from models.inference.network import Network
from models.inference.preprocess import Preprocess
from models.networks import head, zoo
from topwork.errors import ArchitectureUnknown, IntegrityError, WeightsMismatch

ROOT = Path(__file__).resolve().parents[3]
PRESET = Preprocess.for_architecture("lenet").to_dict()
CLASSES = ["ant", "bee", "bumble bée"]


def made(
    folder: Path, architecture: str = "lenet", *, auxiliary: bool = True, **more: Any
) -> tuple[nn.Module, artefact.Card]:
    torch.manual_seed(1)
    model = zoo.build(architecture, len(CLASSES), auxiliary=auxiliary).eval()
    card = {
        "architecture": architecture,
        "classes": CLASSES,
        "head": {"layers": [head.find(model, len(CLASSES)).main], "auxiliary": []},
        "preprocess": Preprocess.for_architecture(architecture).to_dict(),
        "calibration": None,
        **more,
    }
    return model, artefact.write(folder, model, card)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / artefact.CARD
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**card, **changes}), encoding="utf-8")


def rewrite(folder: Path, **tensors: torch.Tensor) -> None:
    """Change tensors and let the card vouch for them."""
    path = folder / artefact.WEIGHTS
    save_file({**load_file(path), **tensors}, path)
    edit(folder, files=artefact.manifest(folder, artefact.WEIGHTS))


def test_round_trip(tmp_path: Path) -> None:
    model, card = made(tmp_path, metrics={"accuracy": 0.9})
    again, read = artefact.load(tmp_path)
    assert read == card
    assert read["classes"] == CLASSES
    assert read["metrics"] == {"accuracy": 0.9}
    assert not again.training
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(x), again(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "weights.safetensors"]


def test_weights_in_any_layout_and_precision_become_plain_float32(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = zoo.build("lenet", 3).to(memory_format=torch.channels_last).bfloat16()
    card = {
        "architecture": "lenet",
        "classes": CLASSES,
        "preprocess": Preprocess.for_architecture("lenet").to_dict(),
    }
    artefact.write(tmp_path, model, card)
    stored = load_file(tmp_path / artefact.WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}


def test_auxiliary_heads_come_where_they_are_wanted(tmp_path: Path) -> None:
    _, card = made(tmp_path, "googlenet")
    assert card["arguments"]["aux_logits"] is True
    plain: Any = artefact.load(tmp_path)[0]
    full, _ = artefact.load(tmp_path, auxiliary=True)
    assert plain.aux1 is None
    assert isinstance(full.aux1, nn.Module)
    without = tmp_path / "without"
    without.mkdir()
    _, card = made(without, "googlenet", auxiliary=False)
    assert card["arguments"]["aux_logits"] is False
    artefact.load(without, auxiliary=True)


def test_a_model_of_another_shape_is_not_written(tmp_path: Path) -> None:
    card = {
        "architecture": "lenet",
        "classes": [*CLASSES, "wasp"],
        "preprocess": Preprocess.for_architecture("lenet").to_dict(),
    }
    with pytest.raises(WeightsMismatch):
        artefact.write(tmp_path, zoo.build("lenet", 3), card)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_flipped_bit_is_found(tmp_path: Path, position: int) -> None:
    made(tmp_path)
    path = tmp_path / artefact.WEIGHTS
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="hash"):
        artefact.load(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": "1"},
        {"classes": ["ant", "ant", "bee"]},
        {"classes": []},
        {"classes": "abc"},
        {"classes": ["ant", "bee"]},
        {"architecture": None},
        {"preprocess": {}},
        {"preprocess": None},
        {"preprocess": {**PRESET, "crop": 100_000, "resize": 100_000}},
        {"preprocess": {**PRESET, "crop": 28.5}},
        {"preprocess": {**PRESET, "resize": "32"}},
        {"files": {}},
        {"files": {artefact.WEIGHTS: "x"}},
    ],
)
def test_a_card_that_cannot_be_right_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    made(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(IntegrityError):
        artefact.load(tmp_path)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"layers": ["features.0"], "auxiliary": []}, "'features.0', which is not its head"),
        ({"layers": ["../head"], "auxiliary": []}, "which is not its head"),
        ({"layers": ["classifier.2"], "auxiliary": ["features.0"]}, "which is not its head"),
        ({"layers": [], "auxiliary": []}, "does not name its head"),
        ({"layers": ["classifier.2"]}, "does not name its head"),
        (None, "does not name its head"),
    ],
)
def test_a_head_that_cannot_be_right_is_refused(
    tmp_path: Path, stated: dict[str, Any] | None, words: str
) -> None:
    """Whether the model is to be served or trained further."""
    made(tmp_path)
    edit(tmp_path, head=stated)
    with pytest.raises(IntegrityError, match=words):
        Eager.from_artefact(tmp_path)
    with pytest.raises(IntegrityError, match=words):
        Network.from_artefact(tmp_path, "import", auxiliary=True)


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "\xff", "[" * 100_000])
def test_a_card_that_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    made(tmp_path)
    (tmp_path / artefact.CARD).write_bytes(text.encode("latin-1"))
    with pytest.raises(IntegrityError):
        artefact.load(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"card\.json"):
        artefact.load(tmp_path)
    made(tmp_path)
    (tmp_path / artefact.WEIGHTS).unlink()
    with pytest.raises(IntegrityError, match="missing"):
        artefact.load(tmp_path)


def test_a_network_of_the_future_is_named(tmp_path: Path) -> None:
    made(tmp_path)
    edit(tmp_path, architecture="lenet_9000")
    with pytest.raises(ArchitectureUnknown):
        artefact.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    made(tmp_path)
    bias = torch.zeros(3)
    bias[1] = value
    rewrite(tmp_path, **{"classifier.2.bias": bias})
    with pytest.raises(IntegrityError, match=r"classifier\.2\.bias"):
        artefact.load(tmp_path)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    made(tmp_path)
    rewrite(tmp_path, **{"classifier.2.bias": torch.zeros(4)})
    with pytest.raises(IntegrityError, match="does not fit"):
        artefact.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04pickle", (1 << 40).to_bytes(8, "little") + b"{}" + bytes(100)]
)
def test_files_that_are_no_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    made(tmp_path)
    (tmp_path / artefact.WEIGHTS).write_bytes(content)
    edit(tmp_path, files=artefact.manifest(tmp_path, artefact.WEIGHTS))
    with pytest.raises(IntegrityError):
        artefact.load(tmp_path)


def test_a_manifest_names_every_file(tmp_path: Path) -> None:
    made(tmp_path)
    files = artefact.manifest(tmp_path)
    assert set(files) == {artefact.WEIGHTS, artefact.CARD}
    for name, facts in files.items():
        data = (tmp_path / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def test_another_card_than_the_recorded_one_is_refused(tmp_path: Path) -> None:
    _, card = made(tmp_path)
    digest = artefact.manifest(tmp_path)[artefact.CARD]["sha256"]
    assert artefact.load(tmp_path, card_digest=digest)[1] == card
    edit(tmp_path, classes=["hornet", *CLASSES[1:]])
    artefact.load(tmp_path)
    with pytest.raises(IntegrityError, match=r"card\.json"):
        artefact.load(tmp_path, card_digest=digest)


@pytest.mark.parametrize(
    ("architecture", "calibration"),
    [("squeezenet1_1", {"temperature": 0.1}), ("googlenet", None), ("mnasnet0_5", None)],
)
def test_the_documented_loader_needs_nothing_of_ours(
    tmp_path: Path, architecture: str, calibration: dict[str, float] | None
) -> None:
    text = (ROOT / "docs" / "artefact.md").read_text(encoding="utf-8")
    load, predict, _exported = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len([line for line in load.splitlines() if line]) <= 10
    made(tmp_path, architecture, calibration=calibration)
    image = Image.radial_gradient("L").convert("RGB").resize((300, 260))
    image.save(tmp_path / "image.jpg", quality=95)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", load + predict],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env={"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    label, _, confidence = done.stdout.strip().rpartition(" ")
    ours = Classifier.from_artefact(tmp_path)
    row = ours.forward([ours.decode((tmp_path / "image.jpg").read_bytes())])[0]
    answer = ours.rank(row, 1)
    assert label == answer["label"]
    assert float(confidence) == pytest.approx(answer["confidence"], abs=2e-3)
