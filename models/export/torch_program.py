"""A model as a program of `torch.export`: crops in, calibrated probabilities out."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.export.forms import Answer, Answers, Exported, metadata
from models.inference import artefact, rejection_file
from models.inference.calibration import calibrated, stated
from models.inference.preprocess import Preprocess
from models.inference.rejection import Rejection
from models.networks.head import with_features
from topwork.kinds import AbstainReason

NAME = "model.pt2"
METADATA = "topwork.json"
REASONS = (None, AbstainReason.UNKNOWN, AbstainReason.UNSURE)
BATCH = 2  # The size that the exporter sees; one would be taken for a constant.


class _Served(nn.Module):
    """What the predictor does after the crop."""

    def __init__(self, model: nn.Module, card: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.calibration = model, stated(card)
        self.layer = artefact.heads(model, card).main
        self.mean, self.std = (
            nn.Buffer(torch.tensor(card["preprocess"][name]).view(1, 3, 1, 1))
            for name in ("mean", "std")
        )

    def forward(self, crops: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the probabilities."""
        return self.both(crops)[0]

    def both(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and features."""
        inputs = (crops.to(torch.float32) / 255 - self.mean) / self.std
        logits, features = with_features(self.model, self.layer, inputs)
        return calibrated(logits, *self.calibration), features


class _Judged(_Served):
    """The same with what the answers are worth."""

    def __init__(self, model: nn.Module, card: dict[str, Any], rejection: Rejection) -> None:
        super().__init__(model, card)
        self.references = nn.Buffer(torch.from_numpy(rejection.references))
        self.neighbours, self.usual = rejection.neighbours, rejection.usual

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities, similarities, and reasons as numbers in `REASONS`."""
        probabilities, features = self.both(crops)
        cosines = normalize(features, dim=1) @ self.references.T
        similarity = cosines.topk(self.neighbours, dim=1).values.double().mean(1)
        unsure = probabilities.amax(1) < self.usual.confidence
        reasons = torch.where(similarity < self.usual.similarity, 1, torch.where(unsure, 2, 0))
        return probabilities, similarity, reasons


def write(folder: Path, model: Exported) -> Path:
    """Write `model.pt2` and return its path.

    Its program takes uint8 (n, 3, crop, crop) and returns float64 (n, classes); of a model that can
    abstain a tuple, with similarities, float64 (n,), and reasons, int64 (n,): 0 accepts, 1 is
    unknown, 2 unsure. The extra file `topwork.json` within has the labels and how an image becomes
    a crop.
    """
    side = model.card["preprocess"]["crop"]
    example = torch.zeros(BATCH, 3, side, side, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    rejection = rejection_file.read(model.files, model.card)
    served = (
        _Judged(model.network, model.card, rejection)
        if isinstance(rejection, Rejection)
        else _Served(model.network, model.card)
    )
    program = torch.export.export(served.eval(), (example,), dynamic_shapes=shapes)
    path = folder / NAME
    words = json.dumps(metadata(model), ensure_ascii=False)
    torch.export.save(program, path, extra_files={METADATA: words})
    return path


def answers(path: Path) -> Answers:
    """Return what asks the file."""
    extra = {METADATA: ""}
    program = torch.export.load(path, extra_files=extra).module()
    words = json.loads(extra[METADATA])
    classes, preprocess = json.loads(words["classes"]), json.loads(words["preprocess"])
    crop = Preprocess.from_dict(preprocess).uint8

    def answer(image: Image.Image) -> Answer:
        with torch.inference_mode():
            given = program(torch.from_numpy(crop(image))[None])
        several = isinstance(given, tuple | list)
        probabilities = (given[0] if several else given)[0].numpy()
        reason = REASONS[int(given[2][0])] if several else None
        return Answer(classes[int(probabilities.argmax())], probabilities, reason)

    return answer
