import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.imaging.decode import decode
from models.data.dataset import Sample, StagedDataset, batches
from tests.models.staging import png, stage, vouch
from topwork.errors import DatasetInvalid, IntegrityError, TooFewClasses


def flat(value: int) -> bytes:
    return png(np.full((4, 4, 3), value, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = [("train", "b", flat(1)), ("train", "a", flat(2)), ("val", "c", flat(3))]
    return stage(tmp_path / "data", images)


def test_classes_are_numbered_by_name_in_every_split(folder: Path) -> None:
    staged = StagedDataset(folder)
    assert staged.classes == ["a", "b", "c"]
    assert staged.labels("train").tolist() == [1, 0]
    assert staged.labels("val").tolist() == [2]
    assert staged.labels("test").tolist() == []
    assert staged.counts() == {"train": {"a": 1, "b": 1}, "val": {"c": 1}}


def test_the_frozen_list_decides_and_not_the_alphabet(tmp_path: Path) -> None:
    images = [("train", "a", flat(1)), ("train", "b", flat(2))]
    staged = StagedDataset(stage(tmp_path / "data", images, classes=["z", "b", "a"]))
    assert staged.labels("train").tolist() == [2, 1]


def test_bytes_are_the_uploaded_ones(folder: Path) -> None:
    staged = StagedDataset(folder)
    found = [staged.read(sample) for sample in staged.splits["train"]]
    assert found == [flat(1), flat(2)]


def value(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode(data))[0, 0, 0]


def test_batches_come_in_order_whatever_the_threads(tmp_path: Path) -> None:
    images = [("train", "ab"[n % 2], flat(n)) for n in range(50)]
    staged = StagedDataset(stage(tmp_path / "data", images))
    parts = list(staged.stream(staged.splits["train"], value, batch=8, threads=4))
    assert [len(part) for part in parts] == [8] * 6 + [2]
    assert torch.cat(parts).tolist() == list(range(50))
    staged.close()


def damage(staged: StagedDataset, sample: Sample) -> bytes:
    """Change the bytes of an image in place; return what they are then."""
    shard = next((staged.folder / "shards").iterdir())
    with shard.open("r+b") as file:
        file.seek(sample.offset)
        file.write(b"not an image")
        file.seek(sample.offset)
        return file.read(sample.length)


def test_an_undecodable_image_is_named(tmp_path: Path) -> None:
    staged = StagedDataset(
        stage(tmp_path / "data", [("train", "a", flat(1)), ("train", "b", flat(2))])
    )
    sample = staged.splits["train"][1]
    found = hashlib.sha256(damage(staged, sample)).hexdigest()
    manifest = (staged.folder / "manifest.jsonl").read_text().replace(sample.sha256, found)
    vouch(staged.folder, manifest)
    again = StagedDataset(staged.folder)
    with pytest.raises(DatasetInvalid, match=sample.path):
        list(again.stream(again.splits["train"], value, batch=2, threads=2))


def test_an_image_that_was_changed_or_cut_is_not_used(tmp_path: Path) -> None:
    staged = StagedDataset(
        stage(tmp_path / "data", [("train", "a", flat(1)), ("train", "b", flat(2))])
    )
    first, second = staged.splits["train"]
    damage(staged, second)
    assert staged.read(first) == flat(1)
    assert not (staged.folder / "damaged").exists()
    with pytest.raises(IntegrityError, match=second.path):
        staged.read(second)
    assert (staged.folder / "damaged").exists()
    os.truncate(next((staged.folder / "shards").iterdir()), first.offset + 3)
    with pytest.raises(IntegrityError, match=first.path):
        staged.read(first)


def test_what_names_the_images_is_compared_too(folder: Path) -> None:
    told = hashlib.sha256((folder / "dataset.json").read_bytes()).hexdigest()
    StagedDataset(folder, told).close()
    manifest = (folder / "manifest.jsonl").read_text()
    (folder / "manifest.jsonl").write_text(manifest.replace('"a"', '"b"'))
    with pytest.raises(IntegrityError, match="manifest"):
        StagedDataset(folder, told)
    vouch(folder, manifest.replace('"a"', '"b"'))
    with pytest.raises(IntegrityError, match="dataset"):
        StagedDataset(folder, told)


def test_a_shard_that_is_gone_is_said_to_be_damaged(folder: Path) -> None:
    next((folder / "shards").iterdir()).unlink()
    with pytest.raises(IntegrityError, match="shards/"):
        StagedDataset(folder)
    assert (folder / "damaged").exists()


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
    row = json.loads((folder / "manifest.jsonl").read_text())
    vouch(folder, json.dumps(change(row)) + "\n")
    with pytest.raises(DatasetInvalid):
        StagedDataset(folder)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(TooFewClasses):
        StagedDataset(stage(tmp_path / "data", [("train", "a", flat(1))]))


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
