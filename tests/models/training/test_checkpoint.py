import os
from pathlib import Path
from typing import Any

import pytest
import torch

from models.training import checkpoint
from topwork.errors import IntegrityError

TENSORS = {
    "weight": torch.randn(3, 4),
    "steps": torch.tensor(7),
    "half": torch.randn(5).bfloat16(),
    "empty": torch.zeros(0),
}


def save(folder: Path, step: int, **state: Any) -> Path:
    checkpoint.save(folder, step, TENSORS, {"step": step, **state})
    return folder / f"step-{step:010d}.safetensors"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, 1, history=[0.1, 1e-300])
    tensors, state = checkpoint.read(path)
    assert state == {"step": 1, "history": [0.1, 1e-300]}
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (3, 20, 100):
        save(tmp_path, step)
    names = [path.name for path in checkpoint.newest_first(tmp_path)]
    assert names == ["step-0000000100.safetensors", "step-0000000020.safetensors"]


def test_best_weights_live_as_long_as_a_checkpoint_names_them(tmp_path: Path) -> None:
    for epoch in (1, 2):
        checkpoint.write(tmp_path / f"best-{epoch}.safetensors", TENSORS, {})
    save(tmp_path, 1, best_file="best-1.safetensors")
    save(tmp_path, 2, best_file="best-1.safetensors")
    assert (tmp_path / "best-1.safetensors").exists()
    checkpoint.write(tmp_path / "best-2.safetensors", TENSORS, {})
    save(tmp_path, 3, best_file="best-2.safetensors")
    save(tmp_path, 4, best_file="best-2.safetensors")
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-2.safetensors"]


@pytest.mark.parametrize("where", [200, -1])
def test_a_flipped_bit_is_noticed(tmp_path: Path, where: int) -> None:
    path = save(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        checkpoint.read(path)


def test_a_changed_counter_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    data = path.read_bytes()
    changed = data.replace(rb"\"step\": 1", rb"\"step\": 2")
    assert changed != data
    path.write_bytes(changed)
    with pytest.raises(IntegrityError):
        checkpoint.read(path)


def test_a_cut_file_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(IntegrityError):
        checkpoint.read(path)


def test_a_file_that_changes_after_it_was_read_changes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    tensors, _ = checkpoint.read(path)
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    os.truncate(path, 0)
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_files_of_an_interrupted_save_are_swept(tmp_path: Path) -> None:
    orphan = tmp_path / ".step-0000000009.safetensors.part"
    orphan.write_bytes(b"half")
    save(tmp_path, 1)
    assert len(checkpoint.newest_first(tmp_path)) == 1
    assert not orphan.exists()
