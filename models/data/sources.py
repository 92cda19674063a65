"""Sources of batches: cached features of a frozen trunk, or cached pixels.

Images are decoded once. What was decoded lies in a file of which each batch reads its rows, so a
dataset larger than memory works, and other attempts and jobs find it there.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.imaging.decode import decode, revision
from models.compute.execution import Execution
from models.compute.transfer import sent
from models.data.augment import Augmentation, augment
from models.data.cache import Cache
from models.data.canvas import Canvas, pictures
from models.data.dataset import ACCEPTED, StagedDataset
from models.data.rows import Kind, Rows
from models.inference.preprocess import Preprocess
from models.inference.resample import PAD

Indices = NDArray[np.int64]
CHUNK = 64  # Images decoded between two looks at the clock and the signals.


class Source(Protocol):
    """Labelled inputs by number; the same numbers in the same epoch give the same tensors.

    What becomes of an image depends on no other image of its batch.
    """

    @property
    def labels(self) -> Tensor:
        """Class numbers, int64 (n,)."""

    def batch(self, indices: Indices, epoch: int) -> Tensor:
        """Return the float inputs of these samples as training sees them in this epoch."""


@dataclass(frozen=True)
class Features:
    """Tensors held in memory, never augmented."""

    values: Tensor
    labels: Tensor

    def first(self, count: int) -> "Features":
        """Return those of the first samples."""
        return Features(self.values[:count], self.labels[:count])

    def batch(self, indices: Indices, epoch: int) -> Tensor:  # noqa: ARG002 - every epoch alike.
        """Return the features of these samples."""
        return self.values[torch.from_numpy(indices)]


@dataclass(frozen=True)
class Crops:
    """The very crops that evaluation and prediction see, cached as uint8 (n, 3, side, side)."""

    pixels: Rows
    labels: Tensor
    preprocess: Preprocess
    device: str

    def batch(self, indices: Indices, epoch: int) -> Tensor:  # noqa: ARG002 - every epoch alike.
        """Return normalised crops on the device."""
        return self.preprocess.normalise(
            sent(torch.from_numpy(self.pixels.take(indices)), self.device)
        )


@dataclass(frozen=True)
class Canvases:
    """Images of which each epoch takes other random views.

    `pixels` are rows of `Canvas`, or crops where pixels only change their places.
    """

    pixels: Rows
    labels: Tensor
    preprocess: Preprocess
    augmentation: Augmentation
    seed: int
    device: str

    def batch(self, indices: Indices, epoch: int) -> Tensor:
        """Return normalised random views, made on the device: bytes are the least to send."""
        rows = self.pixels.take(indices)
        batch = sent(torch.from_numpy(rows), self.device)
        views = augment(
            batch if self.augmentation.whole_pixels else pictures(rows, batch),
            indices,
            augmentation=self.augmentation,
            preprocess=self.preprocess,
            seed=self.seed,
            epoch=epoch,
        )
        return self.preprocess.normalise(views)


def crops(
    cache: Cache,
    dataset: StagedDataset,
    split: str,
    preprocess: Preprocess,
    *,
    execution: Execution,
) -> Crops:
    """Decode the evaluation view of a split."""

    def make(data: bytes) -> NDArray[np.uint8]:
        return preprocess.read(data, ACCEPTED)

    kind = squares("crops", preprocess, preprocess.crop)
    pixels = _decoded(cache, dataset, split, make, kind, threads=execution.threads)
    return Crops(pixels, dataset.labels(split), preprocess, execution.device)


def canvases(
    cache: Cache,
    dataset: StagedDataset,
    preprocess: Preprocess,
    *,
    side: int | None,
    augmentation: Augmentation,
    seed: int,
    execution: Execution,
) -> Canvases:
    """Decode the training images for random views.

    `side` is that of their `Canvas`; None where pixels only change their places, so that images are
    kept as the network takes them, without the margin of evaluation.
    """
    if side is None:
        whole = replace(preprocess, resize=preprocess.crop)
        kind = squares("whole", whole, whole.crop)

        def make(data: bytes) -> NDArray[np.uint8]:
            return whole.read(data, ACCEPTED)

    else:
        canvas = Canvas(side, cropped=augmentation.area is not None, fit=preprocess.fit)
        decoding = {"decoder": revision(), **asdict(preprocess.rendering)}
        facts = {"label": "canvases", **decoding, **canvas.facts()}
        kind = Kind("canvases", facts, (canvas.row_bytes,), np.uint8)

        def make(data: bytes) -> NDArray[np.uint8]:
            rgb = decode(data, ACCEPTED, shrink_to=canvas.side, rendering=preprocess.rendering)
            return canvas.row(rgb)

    pixels = _decoded(cache, dataset, "train", make, kind, threads=execution.threads)
    labels = dataset.labels("train")
    return Canvases(pixels, labels, preprocess, augmentation, seed, execution.device)


def squares(label: str, preprocess: Preprocess, side: int) -> Kind:
    """Say what decoded squares of this side are: mean and spread are not in them, a margin is."""
    names = ("resize", "crop", "interpolation", "revision", "white", "fit")
    geometry = {name: preprocess.to_dict()[name] for name in names}
    if preprocess.fit == PAD:
        geometry["margin"] = preprocess.margin
    facts = {"label": label, "decoder": revision(), **geometry}
    return Kind(label, facts, (3, side, side), np.uint8)


def _decoded(
    cache: Cache,
    dataset: StagedDataset,
    split: str,
    make: Callable[[bytes], NDArray[np.uint8]],
    kind: Kind,
    *,
    threads: int,
) -> Rows:
    """Decode a split into its file."""
    samples = dataset.splits[split]

    def parts(missing: list[int]) -> Iterator[NDArray[np.uint8]]:
        rest = [samples[number] for number in missing]
        for part in dataset.stream(rest, make, batch=CHUNK, threads=threads):
            yield part.numpy()

    return cache.rows(kind, dataset.names(split), parts)
