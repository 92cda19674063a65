import hashlib
import os
import pickle
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.networks import zoo
from models.planning import catalogue
from models.weights import checkpoint_file, local_weights, pretrained
from models.weights.download import download
from topwork.errors import IntegrityError, WeightsMismatch, WeightsUnavailable

NAME = "squeezenet1_1"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A publisher on loopback that serves the folder `published`."""
    folder = tmp_path / "published"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/"
    http.shutdown()
    thread.join()
    http.server_close()


def state_of(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(zoo.build(name).state_dict())


def same(path: Path, state: dict[str, Tensor]) -> bool:
    loaded = zoo.build(path.stem, pretrained_state=path).state_dict()
    return all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def publish(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = NAME) -> dict[str, Tensor]:
    """Put a made .pth where the publisher's is, under the hash it has."""
    state = state_of(name)
    torch.save(OrderedDict(state), folder / "file")
    prefix = hashlib.sha256((folder / "file").read_bytes()).hexdigest()[:8]
    facts = catalogue.get(name)
    assert facts.weights is not None
    changed = replace(facts.weights, file=f"{name}-{prefix}.pth", hash_prefix=prefix)
    (folder / "file").rename(folder / changed.file)
    entries = {**catalogue._entries(), name: replace(facts, weights=changed)}
    monkeypatch.setattr(catalogue, "_entries", lambda: entries)
    return state


def test_first_use_downloads_and_converts_and_the_second_needs_no_network(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = publish(tmp_path / "published", monkeypatch)
    folder = tmp_path / "weights"
    entry = pretrained.ensure(NAME, folder, mirror=mirror)
    assert same(entry.path, state)
    assert local_weights.entries(folder) == [entry]
    assert entry.record.preset == "IMAGENET1K_V1"
    assert str(entry.record.source).startswith(mirror)
    assert [check.state for check in local_weights.verify(folder)] == ["intact"]
    assert sorted(file.name for file in folder.iterdir()) == [f"{NAME}.json", f"{NAME}.safetensors"]
    assert agree(pretrained.load(NAME, folder, offline=True).tensors, state)


def test_a_download_with_another_hash_leaves_nothing(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "published", monkeypatch)
    (published,) = (tmp_path / "published").iterdir()
    published.write_bytes(published.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="does not begin with"):
        pretrained.ensure(NAME, tmp_path / "weights", mirror=mirror)
    assert list((tmp_path / "weights").iterdir()) == []


def test_without_network_the_error_names_file_and_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="downloads are switched off") as caught:
        pretrained.ensure("resnet18", tmp_path, offline=True)
    assert "topwork weights add resnet18 resnet18-f37072fd.pth" in str(caught.value.hint)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in str(caught.value.hint)
    assert caught.value.code == "weights_unavailable_offline"


def test_a_publisher_without_the_file_is_the_same_error(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(WeightsUnavailable, match="404") as caught:
        pretrained.ensure("resnet18", tmp_path / "weights", mirror=mirror)
    assert "topwork weights add resnet18 resnet18-f37072fd.pth" in str(caught.value.hint)


def test_a_network_nobody_published_weights_for_says_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="Nobody has published") as caught:
        pretrained.ensure("lenet", tmp_path)
    assert "`none`" in str(caught.value.hint)


def test_a_file_that_changed_is_not_used(tmp_path: Path) -> None:
    torch.save(state_of("lenet"), tmp_path / "made.pth")
    entry = pretrained.add("lenet", tmp_path / "made.pth", tmp_path / "weights")
    data = bytearray(entry.path.read_bytes())
    data[-1] ^= 1
    times = entry.path.stat()
    entry.path.write_bytes(data)
    # Neither size nor time tells that bytes have changed.
    os.utime(entry.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(IntegrityError, match="has changed"):
        pretrained.load("lenet", tmp_path / "weights")
    os.truncate(entry.path, 5000)
    with pytest.raises(IntegrityError, match="has changed"):
        pretrained.load("lenet", tmp_path / "weights")
    pretrained.add("lenet", tmp_path / "made.pth", tmp_path / "weights")
    assert agree(pretrained.load("lenet", tmp_path / "weights").tensors, state_of("lenet"))


def test_a_file_that_changes_after_it_was_read_changes_no_network(tmp_path: Path) -> None:
    torch.save(state_of("lenet"), tmp_path / "made.pth")
    entry = pretrained.add("lenet", tmp_path / "made.pth", tmp_path / "weights")
    loaded = pretrained.load("lenet", tmp_path / "weights")
    with entry.path.open("r+b") as file:
        file.write(b"\0" * entry.bytes)
    os.truncate(entry.path, 0)
    assert agree(loaded.tensors, state_of("lenet"))


def test_a_download_that_changes_before_it_is_converted_is_thrown_away(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "published", monkeypatch)

    def changed(url: str, target: Path, **options: Any) -> None:
        download(url, target, **options)
        torch.save({name: tensor + 1 for name, tensor in state_of(NAME).items()}, target)

    monkeypatch.setattr(pretrained, "download", changed)
    with pytest.raises(IntegrityError, match="was changed"):
        pretrained.ensure(NAME, tmp_path / "weights", mirror=mirror)
    assert list((tmp_path / "weights").iterdir()) == []


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_files_of_each_kind_can_be_added(tmp_path: Path, suffix: str) -> None:
    state = state_of("lenet")
    file = tmp_path / f"made{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    assert same(pretrained.add("lenet", file, tmp_path / "weights").path, state)


def test_a_training_script_s_checkpoint_can_be_added(tmp_path: Path) -> None:
    state = state_of("lenet")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "made.pth")
    assert same(pretrained.add("lenet", tmp_path / "made.pth", tmp_path / "weights").path, state)


def dump(content: object, path: Path) -> None:
    """Write a bare pickle, as torch did long ago."""
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("save", [torch.save, dump])
def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, suffix: str, save: Callable[[object, Path], None]
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    bomb = tmp_path / f"bomb{suffix}"
    save({"features.0.weight": Bomb()}, bomb)
    with pytest.raises(WeightsMismatch, match="bomb"):
        pretrained.add("lenet", bomb, tmp_path / "weights")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"x" * 50, b"PK\x03\x04" + b"\0" * 99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"bad{suffix}").write_bytes(content)
    with pytest.raises(WeightsMismatch, match="bad"):
        pretrained.add("lenet", tmp_path / f"bad{suffix}", tmp_path / "weights")


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    for suffix, save in ((".pth", torch.save), (".safetensors", save_file)):
        file = tmp_path / f"cut{suffix}"
        save(state_of("lenet"), file)
        file.write_bytes(file.read_bytes()[:-5000])
        with pytest.raises(WeightsMismatch, match="cut"):
            pretrained.add("lenet", file, tmp_path / "weights")


def agree(found: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    return found.keys() == state.keys() and all(found[name].equal(state[name]) for name in state)


def add(tmp_path: Path, name: str, state: object) -> Path:
    torch.save(state, tmp_path / "made.pth")
    return pretrained.add(name, tmp_path / "made.pth", tmp_path / "weights").path


def test_wrong_tensors_are_refused_by_name(tmp_path: Path) -> None:
    state = state_of("lenet")
    with pytest.raises(WeightsMismatch, match=r"'features\.0\.weight' is missing"):
        add(tmp_path, "lenet", {name: state[name] for name in state if name != "features.0.weight"})
    with pytest.raises(WeightsMismatch, match=r"'more' does not belong"):
        add(tmp_path, "lenet", {**state, "more": torch.zeros(2)})
    with pytest.raises(WeightsMismatch, match=r"\(10, 84\) instead of \(1000, 84\)"):
        add(tmp_path, "lenet", zoo.build("lenet", 10).state_dict())
    with pytest.raises(WeightsMismatch, match=r"'features\.0\.bias' .* not finite"):
        add(tmp_path, "lenet", {**state, "features.0.bias": torch.full((6,), torch.nan)})
    with pytest.raises(WeightsMismatch, match=r"'features\.0\.bias' holds torch\.int64"):
        add(tmp_path, "lenet", {**state, "features.0.bias": torch.zeros(6, dtype=torch.int64)})
    with pytest.raises(WeightsMismatch, match="not a mapping"):
        add(tmp_path, "lenet", [1, 2])
    assert local_weights.entries(tmp_path / "weights") == []


def test_old_names_of_densenet_are_today_s() -> None:
    state = state_of("densenet121")
    old = OrderedDict()
    for name, tensor in state.items():
        parts = name.split(".")
        if len(parts) > 3 and parts[2].startswith("denselayer"):
            parts[3] = f"{parts[3][:-1]}.{parts[3][-1]}"
        old[".".join(parts)] = tensor
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert agree(pretrained.canonical("densenet121", old), state)


def test_old_names_of_vision_transformers_are_today_s() -> None:
    state = state_of("vit_b_32")
    old = OrderedDict(
        (name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."), tensor)
        for name, tensor in state.items()
    )
    assert old.keys() != state.keys()
    old._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    assert agree(pretrained.canonical("vit_b_32", old), state)


def test_old_files_without_batch_counters_are_completed(tmp_path: Path) -> None:
    state = state_of("resnet18")
    old = OrderedDict(
        (name, tensor) for name, tensor in state.items() if "num_batches_tracked" not in name
    )
    old._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    assert len(old) < len(state)
    assert same(add(tmp_path, "resnet18", old), state)


def test_a_published_file_is_recognised_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "renamed.pth"
    torch.save(state_of("resnet18"), file)
    read = checkpoint_file.read
    known = "f37072fd" + 56 * "0"
    monkeypatch.setattr(pretrained, "read", lambda path: (read(path)[0], known))
    entry = pretrained.add("resnet18", file, tmp_path / "weights")
    assert entry.record.preset == "IMAGENET1K_V1"
    assert entry.record.source == "https://download.pytorch.org/models/resnet18-f37072fd.pth"


def test_what_a_killed_download_left_is_cleared_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".part-old", 100_000), (".part-new", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    torch.save(state_of("lenet"), tmp_path / "made.pth")
    pretrained.add("lenet", tmp_path / "made.pth", tmp_path)
    assert [path.name for path in tmp_path.glob(".part-*")] == [".part-new"]


def test_shared_weights_can_be_added(tmp_path: Path, shared: Path) -> None:
    file = shared / "weights" / "mobilenet_v2.safetensors"
    entry = pretrained.add("mobilenet_v2", file, tmp_path)
    assert same(entry.path, dict(checkpoint_file.read(file)[0]))
    assert [check.state for check in local_weights.verify(tmp_path)] == ["intact"]
    # A folder that somebody else filled works without a record too.
    assert pretrained.ensure("mobilenet_v2", file.parent, offline=True).path == file
