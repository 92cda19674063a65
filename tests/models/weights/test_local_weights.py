import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.system.atomic_files import sha256
from models.networks import zoo
from models.planning.catalogue import HEADER_LIMIT
from models.weights import local_weights, pretrained
from topwork.errors import ArchitectureUnknown, WeightsMismatch, WeightsUnavailable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of weights that holds LeNet's."""
    torch.manual_seed(0)
    torch.save(zoo.build("lenet").state_dict(), tmp_path / "made.pth")
    pretrained.add("lenet", tmp_path / "made.pth", tmp_path / "weights")
    return tmp_path / "weights"


def test_looking_through_the_folder_loads_no_torch(folder: Path) -> None:
    code = (
        "import sys, pathlib, models.weights.local_weights as w;"
        "w.verify(pathlib.Path(sys.argv[1]));"
        "print('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_entries_tell_origin_and_hash(folder: Path) -> None:
    (entry,) = local_weights.entries(folder)
    assert entry.architecture == "lenet"
    assert entry.path == folder / "lenet.safetensors"
    assert entry.bytes == entry.path.stat().st_size
    assert entry.record.source == "made.pth"
    assert entry.record.sha256 == sha256(entry.path)
    assert json.loads(json.dumps(entry.to_dict()))["sha256"] == entry.record.sha256


def test_an_empty_or_missing_folder_has_no_entries(tmp_path: Path) -> None:
    assert local_weights.entries(tmp_path) == []
    assert local_weights.entries(tmp_path / "none") == []
    (tmp_path / "foreign.safetensors").write_bytes(b"")
    assert local_weights.entries(tmp_path) == []


def states(folder: Path) -> list[str]:
    return [check.state for check in local_weights.verify(folder)]


def test_verify_finds_a_flipped_bit(folder: Path) -> None:
    assert states(folder) == ["intact"]
    path = folder / "lenet.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert states(folder) == ["changed"]


def test_verify_finds_a_file_cut_to_nothing(folder: Path) -> None:
    (folder / "lenet.safetensors").write_bytes(b"")
    assert states(folder) == ["unreadable"]


def test_a_file_without_record_is_usable_but_unrecorded(folder: Path) -> None:
    (folder / "lenet.json").unlink()
    assert states(folder) == ["unrecorded"]
    (folder / "lenet.json").write_text("[]")
    assert states(folder) == ["unrecorded"]
    assert pretrained.load("lenet", folder).sha256 == sha256(folder / "lenet.safetensors")


def test_verify_of_an_absent_network_says_so(folder: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="no weights for resnet18"):
        local_weights.verify(folder, "resnet18")
    with pytest.raises(ArchitectureUnknown):
        local_weights.verify(folder, "resnet19")


def test_a_header_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "lenet.safetensors"
    path.write_bytes((HEADER_LIMIT + 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(WeightsMismatch, match="header is too long"):
        local_weights.header(path)


@pytest.mark.parametrize(
    "text", [b"[]", b'"x"', b'{"a": 1}', b'{"a": {}}', b"{", b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_header_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "lenet.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(WeightsMismatch, match="no safetensors file"):
        local_weights.header(path)


def test_adding_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    state = {name: tensor + 1 for name, tensor in zoo.build("lenet").state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    entry = local_weights.add("lenet", tmp_path / "mine.safetensors", tmp_path / "weights")
    assert entry == local_weights.find(tmp_path / "weights", "lenet")
    assert [check.state for check in local_weights.verify(tmp_path / "weights")] == ["intact"]
    loaded = zoo.build("lenet", pretrained_state=entry.path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_adding_passes_the_child_s_refusal_on(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsMismatch, match=r"'features\.0\.weight' is missing"):
        local_weights.add("lenet", tmp_path / "other.safetensors", tmp_path / "weights")
    assert local_weights.entries(tmp_path / "weights") == []
    with pytest.raises(ArchitectureUnknown):
        local_weights.add("lenett", tmp_path / "other.safetensors", tmp_path / "weights")
