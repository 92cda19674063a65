"""Read a staged dataset: labels by class name, image bytes out of the shards, decoded in threads.

The staged folder holds `dataset.json`, `manifest.jsonl` and `shards/<sha256>.tar`. Class numbers
come from the frozen class list of `dataset.json`, never from the order of folders or files.
"""

import copy
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.imaging.decode import ImageLimits
from models.data.shards import Shards, ahead, damaged
from topwork.errors import DatasetInvalid, ImageTooLarge, ImageUndecodable, TooFewClasses

# Ingest has judged every image by the service's own limits; a second opinion here would only let
# a job fail on what the upload accepted.
ACCEPTED = ImageLimits(max_pixels=1 << 31, max_aspect=float("inf"), max_side=1 << 31)
LEAST_CLASSES = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image and where its bytes lie."""

    sha256: str
    path: str
    label: int
    shard: str
    offset: int
    length: int
    width: int
    height: int


class StagedDataset:
    """A dataset version in a local folder, of which nothing is used that was not hashed.

    Args:
        folder: Several runs may share it, and its shards may lie elsewhere.
        sha256: Of `dataset.json`, where it is known. That file names the hash of the manifest, and
            the manifest the hash of each image.

    Raises:
        DatasetInvalid: The folder contradicts itself or has no training images.
        IntegrityError: A file is not as recorded; the folder is then marked, to be made again.
        TooFewClasses: There are fewer than two classes.
    """

    def __init__(self, folder: Path, sha256: str | None = None) -> None:
        self.folder = folder
        text = (folder / "dataset.json").read_bytes()
        if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
            raise damaged(folder, "dataset.json")
        self.summary: dict[str, Any] = json.loads(text)
        self.classes: list[str] = list(self.summary["classes"])
        self.digest: str = self.summary["digest"]
        if len(self.classes) < LEAST_CLASSES:
            raise TooFewClasses
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.splits: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
        for row in self._rows():
            if row["class"] not in numbers or row["split"] not in self.splits:
                raise DatasetInvalid(f"{row['path']} has an unknown class or split.")
            self.splits[row["split"]].append(_sample(row, numbers[row["class"]]))
        if not self.splits["train"]:
            raise DatasetInvalid("There are no images to train on.")
        names = {sample.shard for samples in self.splits.values() for sample in samples}
        self._shards = Shards(folder, names)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the manifest."""
        manifest = (self.folder / "manifest.jsonl").read_bytes()
        if hashlib.sha256(manifest).hexdigest() != self.digest:
            raise damaged(self.folder, "manifest.jsonl")
        yield from map(json.loads, io.BytesIO(manifest))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images by split and class name, classes without images left out."""
        return {
            split: {self.classes[label]: n for label, n in sorted(Counter(labels).items())}
            for split, samples in self.splits.items()
            if (labels := [sample.label for sample in samples])
        }

    def pooled(self) -> Self:
        """Return the dataset whose validation images train: they follow the training images."""
        pooled = copy.copy(self)
        train, val = self.splits["train"], self.splits["val"]
        pooled.splits = {**self.splits, "train": [*train, *val], "val": []}
        return pooled

    def labels(self, split: str) -> Tensor:
        """Return the class numbers of a split, int64 (n,)."""
        return labels_of(self.splits[split])

    def names(self, split: str) -> list[bytes]:
        """Return the SHA-256 of each image of a split."""
        return [bytes.fromhex(sample.sha256) for sample in self.splits[split]]

    def read(self, sample: Sample) -> bytes:
        """Return the original bytes of one image."""
        return self._shards.read(sample)

    def close(self) -> None:
        """Close the shards."""
        self._shards.close()

    def stream(
        self,
        samples: Sequence[Sample],
        make: Callable[[bytes], NDArray[Any]],
        *,
        batch: int,
        threads: int,
    ) -> Iterator[Tensor]:
        """Yield stacked `make(bytes)` of `batch` samples at a time, decoding ahead in threads."""

        def one(sample: Sample) -> NDArray[Any]:
            try:
                return make(self.read(sample))
            except (ImageUndecodable, ImageTooLarge) as error:
                raise DatasetInvalid(f"{sample.path}: {error.message}") from error

        for part in ahead(samples, one, batch=batch, threads=threads):
            yield torch.from_numpy(np.stack(part))


def labels_of(samples: Sequence[Sample]) -> Tensor:
    """Return the class numbers of images, int64 (n,)."""
    return torch.tensor([sample.label for sample in samples], dtype=torch.int64)


def batch_count(images: int, size: int) -> int:
    """Return into how many batches of at most `size` an epoch falls; one image is never alone.

    Batch normalisation cannot learn from a single image, so an odd one joins another batch.
    """
    count = -(-images // size)
    return max(1, images // 2) if size > 1 and images < 2 * count else count


def batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Cut an order into batches whose lengths differ by one at most: none is short and noisy."""
    return np.array_split(order, batch_count(len(order), size))


def _sample(row: dict[str, Any], label: int) -> Sample:
    return Sample(
        sha256=row["sha256"],
        path=row["path"],
        label=label,
        shard=row["shard"],
        offset=row["offset"],
        length=row["length"],
        width=row["width"],
        height=row["height"],
    )
