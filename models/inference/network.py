"""A network together with what it takes to use it, or to train it further."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from models.inference import artefact
from models.inference.classifier import Classifier, Engine, Label
from models.inference.eager import Eager
from models.inference.preprocess import Preprocess
from models.networks.head import Heads
from models.planning import catalogue, heatmaps
from models.planning.catalogue import Architecture


@dataclass
class Network:
    """A model, changed in place by training, with one output for each of its classes.

    `lineage` says where its weights came from, the `sha256` of their file included.
    """

    architecture: Architecture
    model: nn.Module
    heads: Heads
    classes: list[str]
    preprocess: Preprocess
    lineage: dict[str, Any]

    @classmethod
    def from_artefact(
        cls, folder: Path, source: str, *, card_digest: str | None = None, auxiliary: bool = False
    ) -> "Network":
        """Load a trained model, which `source` names; its card must have the hash, if one is given.

        Raises:
            IntegrityError: A file is damaged, or the card does not name the head.
        """
        model, card = artefact.load(folder, card_digest=card_digest, auxiliary=auxiliary)
        digest = card["files"][artefact.WEIGHTS]["sha256"]
        return cls(
            catalogue.get(card["architecture"]),
            model,
            artefact.heads(model, card),
            card["classes"],
            Preprocess.from_dict(card["preprocess"]),
            {"weights": source, "sha256": digest, "of": card.get("lineage")},
        )

    def finish(self) -> None:
        """Bring the model back to the CPU, without the heads that only training uses."""
        for auxiliary in self.architecture.auxiliary:
            setattr(self.model, auxiliary.module, None)
        if hasattr(self.model, "aux_logits"):
            self.model.aux_logits = False  # type: ignore[assignment]  # A plain flag of two torchvision networks.
        self.model.cpu()

    def classifier(
        self, engine: Engine | None = None, *, temperature: float = 1.0, ceiling: float = 1.0
    ) -> Classifier:
        """Return what answers as the predictor would; unless told how, without calibration.

        Args:
            engine: Runs the forward pass in place of the network itself.
            temperature: As of `Classifier`.
            ceiling: Likewise.
        """
        labels = [Label(name) for name in self.classes]
        source = heatmaps.source(self.architecture.name)
        engine = engine or Eager(self.model, self.preprocess, self.heads.main, source)
        return Classifier(engine, self.preprocess, labels, temperature=temperature, ceiling=ceiling)
