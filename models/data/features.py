"""What a frozen trunk makes of the images, computed once, and the head that is trained on it.

The trunk runs in eval mode, in float32 and on the crops that prediction sees. Features are
standardised for training; afterwards that step is folded into the layer, so the published network
is the plain architecture.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.meter import Meter
from core.rundir import RunDir
from models.data.cache import filled
from models.data.sources import Canvases, Features
from models.data.staged import ACCEPTED, Staged
from models.modes import VIEWS
from models.networks.head import Head
from models.predict import forward
from models.preprocess import Preprocess
from models.training.execution import Execution

BATCH = 32
LEAST_SPREAD = 0.1  # Of the mean spread: a feature that hardly varies is noise, do not blow it up.


def collect(
    run: RunDir,
    staged: Staged,
    split: str,
    trunk: nn.Module,
    preprocess: Preprocess,
    execution: Execution,
    meter: Meter,
) -> Features:
    """Return the features of the plain crops of a split."""
    samples = staged.splits[split]
    before = 0 if split == "train" else len(staged.splits["train"])

    def parts(done: int) -> Iterator[NDArray[np.float32]]:
        rest = samples[done:]
        for crops in staged.stream(
            rest,
            lambda data: preprocess.read(data, ACCEPTED),
            batch=BATCH,
            threads=execution.threads,
        ):
            batch = execution.put(preprocess.normalise(crops))
            yield forward(trunk, batch).cpu().numpy()
            done += len(crops)
            meter.at("features", before + done)

    shape = (len(samples), *_shape(trunk, preprocess, execution))
    array = filled(run, f"features-{split}-{preprocess.crop}", shape, np.float32, parts)
    return Features(torch.from_numpy(array), staged.labels(split))


def with_views(
    run: RunDir,
    plain: Features,
    canvases: Canvases,
    trunk: nn.Module,
    execution: Execution,
    meter: Meter,
) -> Features:
    """Return the training features followed by those of random views of the same images."""
    images = len(plain.labels)
    more = VIEWS - 1

    def parts(done: int) -> Iterator[NDArray[np.float32]]:
        # A batch's bounds follow from its first row alone, so a resumed run has the same batches.
        while done < more * images:
            view, first = divmod(done, images)
            chosen = np.arange(first, min(first + BATCH, images))
            batch = execution.put(canvases.batch(chosen, view + 1))
            yield forward(trunk, batch).cpu().numpy()
            done += len(chosen)
            meter.at("views", done)

    shape = (more * images, *plain.values.shape[1:])
    array = filled(run, f"features-views-{canvases.preprocess.crop}", shape, np.float32, parts)
    values = torch.cat([plain.values, torch.from_numpy(array)])
    return Features(values, plain.labels.repeat(VIEWS))


def _shape(trunk: nn.Module, preprocess: Preprocess, execution: Execution) -> tuple[int, ...]:
    blank = execution.put(torch.zeros(1, 3, preprocess.crop, preprocess.crop))
    return tuple(forward(trunk, blank).shape[1:])


class Standardise(nn.Module):
    """Shift and scale each channel of features (n, channels, ...)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def of(cls, features: Tensor) -> "Standardise":
        """Measure the training features."""
        others = [axis for axis in range(features.dim()) if axis != 1]
        variance, mean = torch.var_mean(features, others, correction=0, keepdim=True)
        spread = variance.sqrt()
        return cls(mean, 1 / spread.clamp(min=LEAST_SPREAD * float(spread.mean()) + 1e-12))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of mean 0 and spread 1."""
        return (features - self.mean) * self.scale

    @torch.no_grad()
    def fold_into(self, layer: nn.Linear | nn.Conv2d) -> None:
        """Change the layer so that it gives for plain features what it gave for these."""
        weight = layer.weight.double().flatten(1) * self.scale.double().flatten()
        shift = weight @ self.mean.double().flatten()
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(layer.bias.double() - shift)


def prepare(head: Head, features: Tensor) -> Standardise:
    """Return what to put before the head while it is trained, and give the head its start.

    An identity where standardisation could not be folded back: before a convolution whose padding
    is not shifted with the rest, or before a layer without bias.
    """
    layer = layer_of(head)
    plain = isinstance(layer, nn.Linear) or (
        set(layer.kernel_size) == {1} and not any(layer.padding)
    )
    standard = Standardise.of(features)
    if not plain or layer.bias is None:
        standard.mean.zero_()
        standard.scale.fill_(1.0)
    if isinstance(layer, nn.Linear):
        # The loss is convex in a linear layer, so there is nothing to gain from a random start.
        nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return standard


def layer_of(head: Head) -> nn.Linear | nn.Conv2d:
    """Return the layer that decides the classes."""
    layer = head[1]
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise TypeError
    return layer
