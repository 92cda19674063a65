"""Files come back as the library wrote them, made of the bytes that were hashed, or not at all."""

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from core.system.atomic_files import sha256
from models.networks import tensorfile, weights_file
from topwork.errors import IntegrityError, WeightsMismatch

TENSORS = {
    **{
        str(dtype).removeprefix("torch."): torch.arange(-3, 9).to(dtype).reshape(3, 4)
        for dtype in tensorfile.DTYPES.values()
    },
    "scalar": torch.tensor(7.5),
    "empty": torch.zeros(0, 3),
    "large": torch.randn(3, 1 << 18),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "net.safetensors", {"origin": "here"})
    return tmp_path / "net.safetensors"


def test_what_the_library_writes_is_read_and_hashed(path: Path) -> None:
    found = tensorfile.read(path, sha256(path))
    assert found.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)
    assert found.metadata == weights_file.metadata(path) == {"origin": "here"}
    assert found.sha256 == sha256(path)


def test_tensors_do_not_follow_the_file(path: Path) -> None:
    found = tensorfile.read(path)
    with path.open("r+b") as file:
        file.write(b"\1" * path.stat().st_size)
    os.truncate(path, 0)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("moment", ["before", "between"])
def test_each_byte_counts(path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte of the last tensor changes before it is read, or while the first one is."""
    digest = sha256(path)

    def change(*_: Any) -> None:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            (last,) = os.pread(file.fileno(), 1, file.tell())
            file.write(bytes([last ^ 1]))

    if moment == "before":
        change()
    else:
        header = weights_file._header

        def then_change(*arguments: Any) -> Any:
            found = header(*arguments)
            change()
            return found

        monkeypatch.setattr(weights_file, "_header", then_change)
    with pytest.raises(IntegrityError, match=r"net\.safetensors does not match"):
        tensorfile.read(path, digest)


def test_a_file_that_is_cut_while_it_is_read_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = weights_file._header

    def then_cut(*arguments: Any) -> Any:
        found = header(*arguments)
        os.truncate(path, 5000)
        return found

    monkeypatch.setattr(weights_file, "_header", then_cut)
    with pytest.raises(WeightsMismatch, match="cut off"):
        tensorfile.read(path)
    with pytest.raises(IntegrityError):
        tensorfile.read(path, "0" * 64)


def test_a_bool_is_nothing_but_true_or_false(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"flags": torch.tensor([True, False])}, path)
    path.write_bytes(path.read_bytes()[:-2] + b"\x07\0")
    assert tensorfile.read(path).tensors["flags"].to(torch.uint8).tolist() == [1, 0]


def entry(dtype: str = "F32", shape: Any = (2,), at: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": at}


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": 1},
        {"a": entry(dtype="F99")},
        {"a": entry(shape=[-2])},
        {"a": entry(shape=[2.0])},
        {"a": entry(shape=[True, 2])},
        {"a": entry(shape=[3])},
        {"a": entry(shape=[1 << 62, 1 << 62])},
        {"a": entry(at=[0, 9])},
        {"a": entry(at=[4, 12])},
        {"a": entry(at=[8, 0])},
        {"a": entry(at=[0])},
        {"a": entry(), "b": entry()},
        {"a": entry(shape=[1], at=[0, 4])},
        {"__metadata__": [], "a": entry()},
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(tmp_path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 8)
    with pytest.raises(WeightsMismatch, match=r"odd\.safetensors"):
        tensorfile.read(path)
    with pytest.raises(IntegrityError):
        tensorfile.read(path, hashlib.sha256(b"another file").hexdigest())


@pytest.mark.parametrize("content", [b"", b"\5\0\0", b"\xff" * 8, struct.pack("<Q", 9) + b"{}"])
def test_a_file_without_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    for read in (tensorfile.read, weights_file.metadata):
        with pytest.raises(WeightsMismatch, match=r"odd\.safetensors"):
            read(path)


def test_a_longer_header_than_allowed_is_not_read(path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="too long"):
        tensorfile.read(path, header_bytes=100)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="gone"):
        tensorfile.read(tmp_path / "gone")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsMismatch, match="folder"):
        tensorfile.read(tmp_path / "folder")
