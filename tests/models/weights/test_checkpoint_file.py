"""Checkpoints as people have them: wrapped, prefixed, of other programs, cut off."""

import argparse
import hashlib
import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.networks import zoo
from models.weights import pretrained
from models.weights.checkpoint_file import read, without_prefix
from topwork.errors import WeightsMismatch

Save = Callable[[object], Path]


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(zoo.build("lenet").state_dict())


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(content: object) -> Path:
        path = tmp_path / "made.bin"
        torch.save(content, path)
        return path

    return write


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "alone": lambda state: state,
    "ordered": OrderedDict,
    "DataParallel": lambda state: prefixed(state, "module."),
    "torch.compile": lambda state: prefixed(state, "_orig_mod."),
    "both, in a field": lambda state: prefixed(state, "module._orig_mod.net."),
    "tutorial": lambda state: {"epoch": 3, "model_state_dict": state, "loss": 0.1},
    "references": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1, data="x")},
    "net": lambda state: {"net": state, "acc": 93.1},
    "twice": lambda state: {"model": {"state_dict": prefixed(state, "module.")}, "step": 1},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_state_is_found_in_what_wraps_it(
    tmp_path: Path, save: Save, state: dict[str, Tensor], kind: str
) -> None:
    entry = pretrained.add("lenet", save(WRAPPED[kind](state)), tmp_path / "weights")
    loaded = zoo.build("lenet", pretrained_state=entry.path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_the_same_tensors_give_one_digest(
    tmp_path: Path, save: Save, state: dict[str, Tensor]
) -> None:
    found = set()
    for number in range(8):
        entry = pretrained.add("lenet", save(state), tmp_path / f"weights{number}")
        found.add(hashlib.sha256(entry.path.read_bytes()).hexdigest())
    assert len(found) == 1


def test_safetensors_are_read_whatever_the_suffix(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(prefixed(state, "module."), tmp_path / "made.pth")
    tensors, _ = read(tmp_path / "made.pth")
    assert without_prefix(tensors, state).keys() == state.keys()


def test_a_prefix_of_the_network_s_own_is_kept() -> None:
    own = {"features.0.weight": torch.zeros(1), "features.1.weight": torch.zeros(1)}
    assert without_prefix(own, own) is own
    assert set(without_prefix(prefixed(own, "module."), own)) == set(own)
    assert set(without_prefix({"a.b": torch.zeros(1)}, own)) == {"b"}
    assert without_prefix({}, own) == {}


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.zeros(2))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
        (b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(90), "ONNX"),
        (b"GGUF" + bytes(90), "GGUF"),
        (b"\x1f\x8b\x08" + bytes(90), "compressed"),
        (npz(), "NumPy archive"),
        (zipped(model__constants_DOT_pkl=b"", model__data_DOT_pkl=b""), "TorchScript"),
        (zipped(weights_DOT_pth=b"x"), "zip archive without a checkpoint"),
        (zipped(a__data_DOT_pkl=b"x")[:-9], "damaged or was cut off"),
        (b"", "no checkpoint|damaged"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "made.pth").write_bytes(content)
    with pytest.raises(WeightsMismatch, match=words) as caught:
        read(tmp_path / "made.pth")
    assert "weights_only" not in str(caught.value)
    assert str(caught.value).isprintable()


class Settings:
    """An object of somebody's own beside the tensors."""


def test_objects_beside_tensors_are_named_and_not_loaded(
    save: Save, state: dict[str, Tensor]
) -> None:
    with pytest.raises(WeightsMismatch, match=r"Settings") as caught:
        read(save({"state_dict": state, "settings": Settings()}))
    assert "weights_only" not in str(caught.value)
    assert "model.state_dict()" in str(caught.value.hint)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {1: torch.zeros(1)}, {"model": [1]}])
def test_a_checkpoint_without_a_state_is_refused(save: Save, content: object) -> None:
    with pytest.raises(WeightsMismatch, match="not a mapping of names to tensors"):
        read(save(content))
