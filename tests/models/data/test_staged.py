import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.errors import DatasetInvalid, DiskFull, TooFewClasses
from core.images import decode
from core.rundir import RunDir, Stopped
from models.data import cache
from models.data.staged import Staged, batches
from tests.models.staging import png, stage


def flat(value: int) -> bytes:
    return png(np.full((4, 4, 3), value, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = [("train", "b", flat(1)), ("train", "a", flat(2)), ("val", "c", flat(3))]
    return stage(tmp_path / "data", images)


def test_classes_are_numbered_by_name_in_every_split(folder: Path) -> None:
    staged = Staged(folder)
    assert staged.classes == ["a", "b", "c"]
    assert staged.labels("train").tolist() == [1, 0]
    assert staged.labels("val").tolist() == [2]
    assert staged.labels("test").tolist() == []
    assert staged.counts() == {"train": {"a": 1, "b": 1}, "val": {"c": 1}}


def test_the_frozen_list_decides_and_not_the_alphabet(tmp_path: Path) -> None:
    images = [("train", "a", flat(1)), ("train", "b", flat(2))]
    staged = Staged(stage(tmp_path / "data", images, classes=["z", "b", "a"]))
    assert staged.labels("train").tolist() == [2, 1]


def test_bytes_are_the_uploaded_ones(folder: Path) -> None:
    staged = Staged(folder)
    found = [staged.read(sample) for sample in staged.splits["train"]]
    assert found == [flat(1), flat(2)]


def value(data: bytes) -> torch.Tensor:
    return torch.tensor(int(np.array(decode(data))[0, 0, 0]))


def test_batches_come_in_order_whatever_the_threads(tmp_path: Path) -> None:
    images = [("train", "ab"[n % 2], flat(n)) for n in range(50)]
    staged = Staged(stage(tmp_path / "data", images))
    parts = list(staged.stream(staged.splits["train"], value, batch=8, threads=4))
    assert [len(part) for part in parts] == [8] * 6 + [2]
    assert torch.cat(parts).tolist() == list(range(50))
    staged.close()


def test_an_undecodable_image_is_named(tmp_path: Path) -> None:
    staged = Staged(stage(tmp_path / "data", [("train", "a", flat(1)), ("train", "b", flat(2))]))
    sample = staged.splits["train"][1]
    shard = next((staged.folder / "shards").iterdir())
    with shard.open("r+b") as file:
        file.seek(sample.offset)
        file.write(b"not an image")
    with pytest.raises(DatasetInvalid, match=sample.path):
        list(staged.stream(staged.splits["train"], value, batch=2, threads=2))


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row | {"class": "unknown"},
        lambda row: row | {"split": "holdout"},
        lambda row: row | {"split": "val"},
    ],
)
def test_a_folder_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    folder = stage(tmp_path / "data", [("train", "a", flat(1))], classes=["a", "b"])
    manifest = folder / "manifest.jsonl"
    manifest.write_text(json.dumps(change(json.loads(manifest.read_text()))) + "\n")
    with pytest.raises(DatasetInvalid):
        Staged(folder)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(TooFewClasses):
        Staged(stage(tmp_path / "data", [("train", "a", flat(1))]))


@pytest.mark.parametrize("images", [2, 3, 5, 32, 33, 65, 1000])
@pytest.mark.parametrize("size", [2, 3, 32])
def test_batches_are_even_and_never_of_one(images: int, size: int) -> None:
    parts = batches(np.arange(images), size)
    lengths = [len(part) for part in parts]
    assert np.concatenate(parts).tolist() == list(range(images))
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) > 1
    assert max(lengths) <= max(size, 3)


def test_one_image_a_batch_is_possible_where_asked_for() -> None:
    assert [len(part) for part in batches(np.arange(3), 1)] == [1, 1, 1]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    opened = RunDir(tmp_path)
    yield opened
    opened.events.close()


class Rows:
    """Ten rows, two at a time; remembers from where it was asked to begin."""

    def __init__(self, run: RunDir, stop_at: int | None = None) -> None:
        self.run, self.stop_at, self.asked = run, stop_at, list[int]()

    def __call__(self, done: int) -> Iterator[NDArray[np.int64]]:
        self.asked.append(done)
        for start in range(done, 10, 2):
            self.run.stopping = start == self.stop_at
            yield np.arange(start, start + 2)[:, None]


def test_a_cache_goes_on_where_it_was(run: RunDir) -> None:
    with pytest.raises(Stopped):
        cache.filled(run, "rows", (10, 1), np.int64, Rows(run, stop_at=4))
    rows = Rows(run)
    for _ in range(2):
        array = cache.filled(run, "rows", (10, 1), np.int64, rows)
        assert array[:, 0].tolist() == list(range(10))
    assert rows.asked == [6, 10]


def test_a_cache_from_before_a_reboot_is_not_trusted(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.filled(run, "rows", (10, 1), np.int64, Rows(run))
    boot = tmp_path / "boot_id"
    boot.write_text("another")
    monkeypatch.setattr(cache, "_BOOT", boot)
    rows = Rows(run)
    cache.filled(run, "rows", (10, 1), np.int64, rows)
    assert rows.asked == [0]


def test_a_cache_that_cannot_fit_says_so(run: RunDir) -> None:
    with pytest.raises(DiskFull):
        cache.filled(run, "rows", (1 << 50, 1), np.uint8, Rows(run))
