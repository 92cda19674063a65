"""The network itself as an engine, in torch: the reference that every other one must match.

It serves what has no graph: published weights, and models of earlier versions.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.inference import artefact
from models.inference.outputs import Outputs
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.networks.head import logits_of, with_features
from models.planning import catalogue


class Eager:
    """A network in float32, channels last.

    Args:
        model: The network; it is laid out anew.
        preprocess: How crops become its input.
        layer: Name of the layer that decides the classes, where features are wanted.
    """

    def __init__(self, model: nn.Module, preprocess: Preprocess, layer: str = "") -> None:
        self._layer = layer
        self._model = model.eval().to(memory_format=torch.channels_last)
        self._preprocess = preprocess
        self.nbytes = sum(value.nbytes for value in model.state_dict().values())

    @classmethod
    def from_artefact(cls, folder: Path, card_digest: str | None = None) -> "Eager":
        """Load a trained model; errors as of `artefact.load`."""
        model, card = artefact.load(folder, card_digest=card_digest)
        layer = artefact.heads(model, card).main
        return cls(model, Preprocess.from_dict(card["preprocess"]), layer)

    @classmethod
    def imagenet(
        cls, architecture: str, weights: zoo.State | Path, preprocess: Preprocess
    ) -> "Eager":
        """Load published weights; raises WeightsMismatch where they are another network's."""
        model = zoo.build(architecture, pretrained_state=weights, auxiliary=False)
        artefact.check_finite(model)
        return cls(model, preprocess, catalogue.get(architecture).head)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 logits (N, classes) of uint8 crops (N, 3, H, W)."""
        batch = self._preprocess.normalise(torch.from_numpy(crops))
        logits: NDArray[np.float32] = forward(self._model, batch).cpu().numpy()
        return logits

    def outputs(self, crops: NDArray[np.uint8]) -> Outputs:
        """Return the same with the features (N, d) that the logits are made of."""
        batch = self._preprocess.normalise(torch.from_numpy(crops))
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            found = with_features(self._model, self._layer, batch)
        return Outputs(*(values.float().cpu().numpy() for values in found))


def forward(model: nn.Module, batch: Tensor) -> Tensor:
    """Return float32 logits (N, classes) of a model in eval mode, on the batch's device.

    The batch is normalised float32 (N, 3, H, W). Its size may move a logit by about 1e-6, as
    libraries sum in another order; the label stays.
    """
    with torch.inference_mode():
        logits, _ = logits_of(model(batch.contiguous(memory_format=torch.channels_last)))
        return logits.float()
