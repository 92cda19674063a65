"""Sources of batches: cached features of a frozen trunk, or cached pixels.

Images are decoded once. The decoded squares lie in a file of which each batch reads its rows, so a
dataset larger than memory works, and other attempts and jobs find them there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from core.imaging.decode import decode, revision
from models.compute.execution import Execution
from models.compute.transfer import sent
from models.data.augment import Augmentation, augment
from models.data.cache import Cache
from models.data.dataset import ACCEPTED, StagedDataset
from models.data.rows import Kind, Rows
from models.inference.preprocess import Preprocess
from models.inference.resample import FILTERS

Indices = NDArray[np.int64]
CHUNK = 64  # Images decoded between two looks at the clock and the signals.
CANVAS_MARGIN = 1.125


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
    """Whole images squeezed into squares, from which each epoch takes other random views."""

    pixels: Rows
    aspects: Tensor
    labels: Tensor
    preprocess: Preprocess
    augmentation: Augmentation
    seed: int
    device: str

    def batch(self, indices: Indices, epoch: int) -> Tensor:
        """Return normalised random views, made on the device: bytes are the least to send."""
        views = augment(
            sent(torch.from_numpy(self.pixels.take(indices)), self.device),
            self.aspects[torch.from_numpy(indices)],
            indices,
            augmentation=self.augmentation,
            side=self.preprocess.crop,
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
    augmentation: Augmentation,
    seed: int,
    execution: Execution,
) -> Canvases:
    """Decode the training images whole, squeezed into squares.

    Where views are cut out, the square is a little larger than the short side in evaluation:
    about as many pixels as the image has there, shared evenly between its two directions.
    """
    aspects = torch.tensor([one.width / one.height for one in dataset.splits["train"]])
    whole = not augmentation.area and bool((aspects == 1).all())
    side = preprocess.crop if whole else round(preprocess.resize * CANVAS_MARGIN)
    filtering = FILTERS[preprocess.interpolation]

    def make(data: bytes) -> NDArray[np.uint8]:
        image: Image.Image = decode(data, ACCEPTED, shrink_to=side)
        return np.asarray(image.resize((side, side), filtering)).transpose(2, 0, 1)

    kind = squares("canvases", preprocess, side)
    pixels = _decoded(cache, dataset, "train", make, kind, threads=execution.threads)
    return Canvases(
        pixels, aspects, dataset.labels("train"), preprocess, augmentation, seed, execution.device
    )


def squares(label: str, preprocess: Preprocess, side: int) -> Kind:
    """Say what decoded squares of this side are: neither mean nor spread is in them."""
    names = ("resize", "crop", "interpolation", "revision")
    geometry = {name: preprocess.to_dict()[name] for name in names}
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
