"""The network itself as an engine, in torch: the reference that every other one must match.

It serves what has no graph: published weights, and models of earlier versions.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.inference import artefact
from models.inference.outputs import LinearHead, Mapped, Outputs
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.networks.head import logits_of, with_features, with_maps
from models.planning import catalogue, heatmaps
from models.planning.heatmaps import MapLayer


class Eager:
    """A network in float32, channels last.

    Args:
        model: The network; it is laid out anew.
        preprocess: How crops become its input.
        layer: Name of the layer that decides the classes, where features are wanted.
        source: The one that gives the maps, where some are wanted.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        layer: str = "",
        source: MapLayer | None = None,
    ) -> None:
        self._layer, self._source = layer, source
        self._model = model.eval().to(memory_format=torch.channels_last)
        self._preprocess = preprocess
        self.nbytes = sum(value.nbytes for value in model.state_dict().values())

    @classmethod
    def from_artefact(cls, folder: Path, card_digest: str | None = None) -> "Eager":
        """Load a trained model; errors as of `artefact.load`."""
        model, card = artefact.load(folder, card_digest=card_digest)
        layer = artefact.heads(model, card).main
        source = heatmaps.source(card["architecture"])
        return cls(model, Preprocess.from_dict(card["preprocess"]), layer, source)

    @classmethod
    def imagenet(
        cls, architecture: str, weights: zoo.State | Path, preprocess: Preprocess
    ) -> "Eager":
        """Load published weights; raises WeightsMismatch where they are another network's."""
        model = zoo.build(architecture, pretrained_state=weights, auxiliary=False)
        artefact.check_finite(model)
        head, source = catalogue.get(architecture).head, heatmaps.source(architecture)
        return cls(model, preprocess, head, source)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 logits (N, classes) of uint8 crops (N, 3, H, W)."""
        batch = self._preprocess.normalise(torch.from_numpy(crops))
        logits: NDArray[np.float32] = forward(self._model, batch).cpu().numpy()
        return logits

    def outputs(self, crops: NDArray[np.uint8]) -> Outputs:
        """Return the same with the features (N, d) that the logits are made of."""
        with torch.inference_mode():
            found = with_features(self._model, self._layer, self._batch(crops))
        return Outputs(*map(_array, found))

    @property
    def has_maps(self) -> bool:
        """Whether `mapped` can be asked."""
        return self._source is not None

    @property
    def head(self) -> LinearHead | None:
        """What turns averaged maps into logits; None where there is a map of each class."""
        if self._source is None or self._source.per_class:
            return None
        layer = self._model.get_submodule(self._layer)
        assert isinstance(layer, nn.Linear)  # noqa: S101 - as the table of families says.
        return LinearHead(_array(layer.weight.detach()), _array(layer.bias.detach()))

    def mapped(self, crops: NDArray[np.uint8]) -> Mapped:
        """Return the same with the maps (N, k, h, w) whose average the logits are made of."""
        assert self._source is not None  # noqa: S101 - `has_maps` says so.
        with torch.inference_mode():
            found = with_maps(self._model, self._layer, self._source, self._batch(crops))
        return Mapped(*map(_array, found))

    def _batch(self, crops: NDArray[np.uint8]) -> Tensor:
        batch = self._preprocess.normalise(torch.from_numpy(crops))
        return batch.contiguous(memory_format=torch.channels_last)


def _array(values: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values.float().cpu().numpy()
    return found


def forward(model: nn.Module, batch: Tensor) -> Tensor:
    """Return float32 logits (N, classes) of a model in eval mode, on the batch's device.

    The batch is normalised float32 (N, 3, H, W). Its size may move a logit by about 1e-6, as
    libraries sum in another order; the label stays.
    """
    with torch.inference_mode():
        logits, _ = logits_of(model(batch.contiguous(memory_format=torch.channels_last)))
        return logits.float()
