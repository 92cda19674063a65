"""Answer which class an image belongs to, in three stages: decode, forward, rank.

`logits` and `probabilities` are the numerics of every answer: the trainer's evaluation calls them
too, so an image gets the same label and confidence from a finished job and from the service.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from core.imaging.decode import DEFAULT_LIMITS, ImageData, ImageLimits, OpenImage
from models.inference import calibration, onnx_engine, rejection_file
from models.inference.card_file import GRAPH, WEIGHTS, Card, read_card
from models.inference.heatmap import HeatMap, heat_map
from models.inference.outputs import LinearHead, Mapped, Outputs
from models.inference.preprocess import Preprocess
from models.inference.rejection import Rejection, Thresholds
from models.planning import catalogue, heatmaps
from models.planning.rejection import COVERAGE, NO_REFERENCES
from topwork.errors import HeatmapUnsupported, IntegrityError, RejectionUnavailable
from topwork.kinds import Decision, RejectMode

if TYPE_CHECKING:  # Loaded only where a model has no graph: it brings torch.
    from models.networks import zoo

THRESHOLDS_KEPT = 16  # Of shares that were asked for: each takes a pass over all scores.


@dataclass(frozen=True, slots=True)
class Label:
    """One output of the network; ImageNet's also carry a WordNet id, as two pairs share a name."""

    name: str
    wordnet_id: str | None = None


Crops = NDArray[np.uint8]


class Engine(Protocol):
    """Something that runs a network's forward pass; `nbytes` is the memory that it holds."""

    nbytes: int

    @property
    def has_maps(self) -> bool:
        """Whether `mapped` can be asked."""
        ...

    @property
    def head(self) -> LinearHead | None:
        """What turns averaged maps into logits; None where there is a map of each class."""
        ...

    def __call__(self, crops: Crops) -> NDArray[np.float32]:
        """Return float32 logits (N, classes) for uint8 crops (N, 3, H, W), as they were decoded."""
        ...

    def outputs(self, crops: Crops) -> Outputs:
        """Return the same logits with the features that they were made of."""
        ...

    def mapped(self, crops: Crops) -> Mapped:
        """Return the same with the maps whose average the logits are made of."""
        ...


class Answered(NamedTuple):
    """Probabilities, float64 (N, classes), and likeness to known images, float64 (N,), if any.

    `mapped` is what heat maps are made of, where some were asked for.
    """

    probabilities: NDArray[np.float64]
    similarities: NDArray[np.float64] | None
    mapped: Mapped | None = None

    def rows(self) -> Iterator[tuple[NDArray[np.float64], float | None]]:
        """Yield probabilities and similarity of each image."""
        count, similarities = len(self.probabilities), self.similarities
        seen = [None] * count if similarities is None else similarities.tolist()
        yield from zip(self.probabilities, seen, strict=True)


class Classifier:
    """A network with everything an answer needs: preprocessing, labels and calibration.

    Args:
        engine: Runs the forward pass.
        preprocess: Turns an image into the network's input.
        labels: One per output, in the network's order.
        temperature: Divisor of the logits found by calibration; 1 leaves them as they are.
        ceiling: What no confidence exceeds, above 1 / classes; 1 for none.
        rejection: Decides which answers are relied on, or says why it cannot.
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
        rejection: Rejection | str = NO_REFERENCES,
        facts: dict[str, Any] | None = None,
    ) -> None:
        calibration.check(temperature, ceiling, len(labels))
        self.engine = engine
        self.preprocess = preprocess
        self.labels = tuple(labels)
        self.temperature, self.ceiling = temperature, ceiling
        self.rejection = rejection
        if not isinstance(rejection, str):
            self._at = lru_cache(THRESHOLDS_KEPT)(rejection.thresholds)
        self.facts = {**(facts or {}), "classes": len(self.labels)}

    @property
    def nbytes(self) -> int:
        """Memory that it holds: what its engine takes, and the images that it knows."""
        known = 0 if isinstance(self.rejection, str) else self.rejection.nbytes
        return self.engine.nbytes + known

    @classmethod
    def from_artefact(cls, folder: Path, card_digest: str | None = None) -> "Classifier":
        """Load a trained model; raises IntegrityError when a byte of it is not as it was made."""
        card = read_card(folder, card_digest)
        catalogue.get(card["architecture"])
        return cls.of(card, _engine(folder, card, card_digest), rejection_file.read(folder, card))

    @classmethod
    def of(
        cls, card: Card, engine: Engine, rejection: Rejection | str = NO_REFERENCES
    ) -> "Classifier":
        """Return what answers as a card says by an engine that runs its network."""
        temperature, ceiling = calibration.stated(card)
        return cls(
            engine,
            Preprocess.from_dict(card["preprocess"]),
            [Label(name) for name in card["classes"]],
            temperature=temperature,
            ceiling=ceiling,
            rejection=rejection,
            facts={
                "architecture": card["architecture"],
                "sha256": card["files"][WEIGHTS]["sha256"],
            },
        )

    @classmethod
    def imagenet(
        cls, architecture: str, weights: "zoo.State | Path", preprocess: Preprocess | None = None
    ) -> "Classifier":
        """Load a network with its published weights for the 1000 ImageNet classes.

        Raises:
            WeightsMismatch: They are not this network's weights.
        """
        from models.inference.eager import Eager  # noqa: PLC0415 - loads torch.

        preprocess = preprocess or Preprocess.for_architecture(architecture)
        return cls(
            Eager.imagenet(architecture, weights, preprocess),
            preprocess,
            [Label(name, wordnet_id) for wordnet_id, name in catalogue.imagenet()],
            facts={"architecture": architecture},
        )

    def decode(self, data: ImageData, limits: ImageLimits = DEFAULT_LIMITS) -> Crops:
        """Return the network's view of an image file, uint8 (3, H, W); safe in any thread.

        Raises:
            ImageUndecodable: The file is no complete image.
            ImageTooLarge: The image is beyond `limits`.
        """
        return self.crop(OpenImage(data, limits))

    def crop(self, image: OpenImage) -> Crops:
        """Return the same of an image whose header was read; errors as of `decode`."""
        return self.preprocess.crop_of(image)

    def logits(self, crops: Sequence[Crops] | Crops) -> NDArray[np.float32]:
        """Return what the network says before calibration, float32 (N, classes)."""
        return self.engine(np.stack(list(crops)))

    def outputs(self, crops: Sequence[Crops] | Crops) -> Outputs:
        """Return the same with the features it was made of, float32 (N, d)."""
        return self.engine.outputs(np.stack(list(crops)))

    def forward(self, crops: Sequence[Crops] | Crops) -> NDArray[np.float64]:
        """Return calibrated probabilities, float64 (N, classes), of decoded images."""
        return self._served(self.logits(crops))

    def _served(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        return calibration.served(logits, self.temperature, self.ceiling)

    def answer(self, crops: Sequence[Crops] | Crops, *, explain: bool = False) -> Answered:
        """Return what `forward` does, with the images' similarity to known ones.

        With `explain` it has what `heat_map` takes; `check_explain` says whether that can be.
        """
        mapped = self.engine.mapped(np.stack(list(crops))) if explain else None
        if isinstance(self.rejection, str):
            if mapped is None:
                return Answered(self.forward(crops), None)
            return Answered(self._served(mapped.logits), None, mapped)
        outputs = mapped or self.outputs(crops)
        similarities = self.rejection.similarity(outputs.features)
        return Answered(self._served(outputs.logits), similarities, mapped)

    def check_explain(self, index: int | None) -> None:
        """Raise HeatmapUnsupported where there are no heat maps, or none of this output."""
        why = heatmaps.unsupported(self.facts["architecture"])
        why = why or (None if self.engine.has_maps else heatmaps.NO_MAPS)
        if why is not None:
            raise HeatmapUnsupported(f"{self.facts['architecture']} has no heat maps: {why}.")
        if index is not None and index >= len(self.labels):
            raise HeatmapUnsupported(f"The model has {len(self.labels)} classes.")

    def heat_map(self, answered: Answered, image: int, index: int) -> HeatMap:
        """Return what spoke for a class in one of the images that were answered with `explain`."""
        assert answered.mapped is not None  # noqa: S101 - `explain` has asked for it.
        logits, _, maps = answered.mapped
        return heat_map(logits[image], maps[image], self.engine.head, index)

    def thresholds(self, reject: RejectMode | float = RejectMode.AUTO) -> Thresholds | None:
        """Return what an answer must reach to be relied on; None where every answer is.

        Raises:
            RejectionUnavailable: The model cannot promise the share that is asked for.
        """
        if isinstance(self.rejection, str):
            if isinstance(reject, float):
                raise RejectionUnavailable(f"The model cannot abstain: {self.rejection}.")
            return None
        if reject == RejectMode.NONE:
            return None
        return self._at(reject if isinstance(reject, float) else COVERAGE)

    def stated(self, thresholds: Thresholds | None) -> dict[str, Any]:
        """Return what an answer says about the thresholds, or about why there are none."""
        if thresholds is not None:
            return {**asdict(thresholds), "reason": None}
        return {"reason": self.rejection if isinstance(self.rejection, str) else "not asked for"}

    def rank(
        self,
        row: NDArray[np.float64],
        top_k: int,
        similarity: float | None = None,
        thresholds: Thresholds | None = None,
    ) -> dict[str, Any]:
        """Return the answer for one image; equal probabilities stand in the network's order.

        Args:
            row: Its probabilities.
            top_k: Most classes named; cut to the number of classes.
            similarity: Of the image to known ones, where the model has some.
            thresholds: What the answer must reach to be relied on; None relies on each.

        Raises:
            IntegrityError: The network gave no finite answer.
        """
        if not np.isfinite(row).all():
            raise IntegrityError("The model gives no finite answer for this image.")
        order = np.argsort(-row, stable=True)[:top_k].tolist()
        predictions = [self._prediction(index, float(row[index])) for index in order]
        confidence, reason = predictions[0]["confidence"], None
        if thresholds is not None and similarity is not None:
            reason = thresholds.reason(similarity, confidence)
        return {
            "decision": Decision.of(reason),
            "reason": reason,
            "label": predictions[0]["label"],
            "confidence": confidence,
            "similarity": similarity,
            "predictions": predictions,
        }

    def _prediction(self, index: int, confidence: float) -> dict[str, Any]:
        label = self.labels[index]
        entry = {"label": label.name, "index": index, "confidence": confidence}
        return entry if label.wordnet_id is None else {**entry, "wordnet_id": label.wordnet_id}


def _engine(folder: Path, card: Card, card_digest: str | None) -> Engine:
    """Return the engine that the card chose; torch serves what came without its graph."""
    choice = card.get("engine")
    chosen = isinstance(choice, dict) and choice.get("name") == onnx_engine.NAME
    if chosen and (folder / GRAPH).exists():
        return onnx_engine.OnnxEngine.from_artefact(folder, card)
    from models.inference.eager import Eager  # noqa: PLC0415 - loads torch.

    return Eager.from_artefact(folder, card_digest)
