"""Answer which class an image belongs to, in three stages: decode, forward, rank.

`logits` and `probabilities` are the numerics of every answer: the trainer's evaluation calls them
too, so an image gets the same label and confidence from a finished job and from the service.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core.imaging.decode import DEFAULT_LIMITS, ImageData, ImageLimits, OpenImage
from models.inference import artefact
from models.inference.calibration import probabilities, stated
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.networks.head import logits_of
from models.planning import catalogue
from topwork.errors import IntegrityError


@dataclass(frozen=True, slots=True)
class Label:
    """One output of the network; ImageNet's also carry a WordNet id, as two pairs share a name."""

    name: str
    wordnet_id: str | None = None


class Engine(Protocol):
    """Something that runs a network's forward pass."""

    nbytes: int

    def __call__(self, batch: Tensor) -> Tensor:
        """Return float32 logits (N, classes) on the CPU for normalised float32 (N, 3, H, W)."""
        ...


class Eager:
    """The network itself in float32, channels last: the reference that other engines must match."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval().to(memory_format=torch.channels_last)
        self.nbytes = sum(value.nbytes for value in model.state_dict().values())

    def __call__(self, batch: Tensor) -> Tensor:
        """Return float32 logits (N, classes) on the CPU."""
        return forward(self._model, batch).cpu()


def forward(model: nn.Module, batch: Tensor) -> Tensor:
    """Return float32 logits (N, classes) of a model in eval mode, on the batch's device.

    The batch is normalised float32 (N, 3, H, W). Its size may move a logit by about 1e-6, as
    libraries sum in another order; the label stays.
    """
    with torch.inference_mode():
        logits, _ = logits_of(model(batch.contiguous(memory_format=torch.channels_last)))
        return logits.float()


class Classifier:
    """A network with everything an answer needs: preprocessing, labels and calibration.

    Args:
        engine: Runs the forward pass.
        preprocess: Turns an image into the network's input.
        labels: One per output, in the network's order.
        temperature: Divisor of the logits found by calibration; 1 leaves them as they are.
        ceiling: What no confidence exceeds, above 0; 1 for none.
        facts: What the answer says about the model.
    """

    def __init__(
        self,
        engine: Engine,
        preprocess: Preprocess,
        labels: Sequence[Label],
        *,
        temperature: float = 1.0,
        ceiling: float = 1.0,
        facts: dict[str, Any] | None = None,
    ) -> None:
        if not (math.isfinite(temperature) and temperature > 0):
            raise IntegrityError(f"A temperature of {temperature} cannot calibrate anything.")
        if not 0 < ceiling <= 1:
            raise IntegrityError(f"A ceiling of {ceiling} is none for a confidence.")
        self.engine = engine
        self.preprocess = preprocess
        self.labels = tuple(labels)
        self.temperature, self.ceiling = temperature, ceiling
        self.facts = {**(facts or {}), "classes": len(self.labels)}

    @classmethod
    def from_artefact(cls, folder: Path, card_digest: str | None = None) -> "Classifier":
        """Load a trained model; raises IntegrityError when a byte of it is not as it was made."""
        return cls.of(*artefact.load(folder, card_digest=card_digest))

    @classmethod
    def of(cls, model: nn.Module, card: artefact.Card) -> "Classifier":
        """Return the same for what `artefact.load` returned; the model is laid out anew for it."""
        temperature, ceiling = stated(card)
        return cls(
            Eager(model),
            Preprocess.from_dict(card["preprocess"]),
            [Label(name) for name in card["classes"]],
            temperature=temperature,
            ceiling=ceiling,
            facts={
                "architecture": card["architecture"],
                "sha256": card["files"][artefact.WEIGHTS]["sha256"],
            },
        )

    @classmethod
    def imagenet(
        cls, architecture: str, weights: zoo.State | Path, preprocess: Preprocess | None = None
    ) -> "Classifier":
        """Load a network with its published weights for the 1000 ImageNet classes.

        Raises:
            WeightsMismatch: They are not this network's weights.
        """
        model = zoo.build(architecture, pretrained_state=weights, auxiliary=False)
        artefact.check_finite(model)
        return cls(
            Eager(model),
            preprocess or Preprocess.for_architecture(architecture),
            [Label(name, wordnet_id) for wordnet_id, name in catalogue.imagenet()],
            facts={"architecture": architecture},
        )

    def decode(self, data: ImageData, limits: ImageLimits = DEFAULT_LIMITS) -> Tensor:
        """Return the network's view of an image file, uint8 (3, H, W); safe in any thread.

        Raises:
            ImageUndecodable: The file is no complete image.
            ImageTooLarge: The image is beyond `limits`.
        """
        return self.crop(OpenImage(data, limits))

    def crop(self, image: OpenImage) -> Tensor:
        """Return the same of an image whose header was read; errors as of `decode`."""
        return self.preprocess.crop_of(image)

    def logits(self, images: Sequence[Tensor]) -> Tensor:
        """Return what the network says before calibration, float32 (N, classes)."""
        return self.engine(self.preprocess.normalise(torch.stack(tuple(images))))

    def forward(self, images: Sequence[Tensor]) -> Tensor:
        """Return calibrated probabilities, float64 (N, classes), of decoded images."""
        return probabilities(self.logits(images), self.temperature, self.ceiling)

    def rank(self, row: Tensor, top_k: int) -> dict[str, Any]:
        """Return the answer for one image; equal probabilities stand in the network's order.

        `top_k` is cut to the number of classes.

        Raises:
            IntegrityError: The network gave no finite answer.
        """
        if not row.isfinite().all():
            raise IntegrityError("The model gives no finite answer for this image.")
        order = torch.sort(row, descending=True, stable=True).indices[:top_k].tolist()
        predictions = [self._prediction(index, float(row[index])) for index in order]
        return {
            "decision": "accept",  # Nothing rejects yet.
            "label": predictions[0]["label"],
            "confidence": predictions[0]["confidence"],
            "predictions": predictions,
        }

    def _prediction(self, index: int, confidence: float) -> dict[str, Any]:
        label = self.labels[index]
        entry = {"label": label.name, "index": index, "confidence": confidence}
        return entry if label.wordnet_id is None else {**entry, "wordnet_id": label.wordnet_id}
