"""Features of a frozen trunk, computed once, and the head that is trained on them.

The trunk runs in eval mode, in float32 and on the crops that prediction sees. Features are
standardised for training; afterwards that step is folded into the layer, so the published network
is the plain architecture.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.system.progress import Meter
from models.compute.execution import Execution
from models.data.cache import Cache
from models.data.dataset import ACCEPTED, StagedDataset
from models.data.rows import Kind
from models.data.sources import Canvases, Features, squares
from models.inference.eager import forward
from models.inference.network import Network
from models.inference.preprocess import Preprocess
from models.networks.fold import folded
from models.networks.head import Head, split
from models.planning.augmentation import VIEWS

BATCH = 32
LEAST_SPREAD = 0.1  # Of the mean spread: a feature that hardly varies is noise, do not blow it up.


@dataclass(frozen=True)
class FeatureExtractor:
    """A frozen trunk, with all that decides what comes out of it.

    Args:
        trunk: In eval mode, on its device.
        running: The same as the execution decided that it runs.
        origin: Names the trunk: architecture, layer of the head, SHA-256 of the weights, form.
        preprocess: How an image becomes its input.
        execution: How the arithmetic runs; other threads or libraries give other last bits.
    """

    trunk: nn.Module
    running: nn.Module
    origin: str
    preprocess: Preprocess
    execution: Execution

    @classmethod
    def fastest(cls, network: Network, execution: Execution) -> Self:
        """Extract as fast as possible, in the arithmetic of the execution."""
        trunk = folded(execution.place(network.model.eval()), network.heads.main)
        return cls._of(network, execution, trunk, "folded")

    @classmethod
    def served(cls, network: Network, execution: Execution) -> Self:
        """Extract as the predictor does: by the network as it is, in fp32 on the CPU.

        The form counts as well as the precision: where features hardly vary, standardising them
        blows up what folding rounds.
        """
        execution = execution.serving()
        trunk, _ = split(execution.place(network.model.eval()), network.heads.main)
        return cls._of(network, execution, trunk, "plain")

    @classmethod
    def _of(cls, network: Network, execution: Execution, trunk: nn.Module, form: str) -> Self:
        sha256 = network.lineage["sha256"]
        origin = f"{network.architecture.name} {network.heads.main} {sha256} {form}"
        running = execution.running(trunk)
        return cls(trunk, running, origin, network.preprocess, execution.for_head())

    def __call__(self, batch: Tensor) -> NDArray[np.float32]:
        """Return the features of normalised images (n, 3, h, w)."""
        # Sums depend on the size of a batch, not on what else is in it. So all have one size, and
        # features computed for other images at another time have the same bits.
        lack = BATCH - len(batch)
        filled = torch.cat([batch, batch[-1:].expand(lack, -1, -1, -1)]) if lack else batch
        features: NDArray[np.float32] = (
            forward(self.running, self.execution.put(filled)).cpu().numpy()
        )
        return features[: len(batch)]

    def kind(self, label: str, **more: object) -> Kind:
        """Say what features of this trunk are."""
        prep = self.preprocess
        facts = self.execution.facts()
        facts.pop("reason", None)
        blank = torch.zeros(1, 3, prep.crop, prep.crop)
        whole = {
            "origin": self.origin,
            "pixels": squares("crops", prep, prep.crop).facts,
            "normalise": [prep.mean, prep.std],
            "execution": facts,
            "batch": BATCH,
            **more,
        }
        # Not by what runs it, which may first be compiled, when all features may be there already.
        shape = forward(self.trunk, self.execution.put(blank)).shape[1:]
        return Kind(label, whole, tuple(shape), np.float32)


def collect(
    cache: Cache,
    dataset: StagedDataset,
    name: str,
    extractor: FeatureExtractor,
    meter: Meter,
    *,
    before: int = 0,
) -> Features:
    """Return the features of the plain crops of a split; `before` images are counted already."""
    samples = dataset.splits[name]

    def parts(missing: list[int]) -> Iterator[NDArray[np.float32]]:
        done = before + len(samples) - len(missing)
        for crops in dataset.stream(
            [samples[number] for number in missing],
            lambda data: extractor.preprocess.read(data, ACCEPTED),
            batch=BATCH,
            threads=extractor.execution.threads,
        ):
            yield extractor(extractor.preprocess.normalise(crops))
            done += len(crops)
            meter.at("features", done)

    kind = extractor.kind("features")
    values = kind.empty(len(samples))
    cache.rows(kind, dataset.names(name), parts, into=values)
    return Features(torch.from_numpy(values), dataset.labels(name))


def with_views(
    cache: Cache,
    dataset: StagedDataset,
    plain: Features,
    canvases: Canvases,
    extractor: FeatureExtractor,
    meter: Meter,
) -> Features:
    """Return the training features followed by those of random views of the same images."""
    images = len(plain.labels)
    # A view follows from an image's number as well, so the same image elsewhere is another row.
    names = [
        hashlib.sha256(name + number.to_bytes(8)).digest()
        for number, name in enumerate(dataset.names("train"))
    ]
    values = np.empty((VIEWS, *plain.values.shape), np.float32)
    values[0] = plain.values
    for view in range(1, VIEWS):

        def parts(missing: list[int], view: int = view) -> Iterator[NDArray[np.float32]]:
            for start in range(0, len(missing), BATCH):
                chosen = np.array(missing[start : start + BATCH])
                yield extractor(canvases.batch(chosen, view))
                meter.at("views", (view - 1) * images + int(chosen[-1]) + 1)

        facts = {"view": view, "seed": canvases.seed, "augmentation": asdict(canvases.augmentation)}
        kind = extractor.kind("views", canvas=canvases.pixels.kind.facts, **facts)
        cache.rows(kind, names, parts, into=values[view])
    return Features(torch.from_numpy(values).flatten(0, 1), plain.labels.repeat(VIEWS))


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

    @classmethod
    def together(cls, features: Tensor) -> "Standardise":
        """Measure the features (n, d), with one scale for all.

        The spread of a single feature over a few images is mostly chance.
        """
        variance, mean = torch.var_mean(features, 0, correction=0, keepdim=True)
        spread = variance.mean().sqrt() + 1e-12
        return cls(mean, (1 / spread).expand_as(mean).clone())

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
