"""A model as a program of `torch.export`: crops in, calibrated probabilities out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from models.export.forms import Answers, Exported, metadata
from models.inference.calibration import calibrated, stated
from models.inference.preprocess import Preprocess
from models.networks.head import logits_of

NAME = "model.pt2"
METADATA = "topwork.json"
BATCH = 2  # The size that the exporter sees; one would be taken for a constant.


class _Served(nn.Module):
    """What the predictor does after the crop."""

    def __init__(self, model: nn.Module, card: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.calibration = model, stated(card)
        self.mean, self.std = (
            nn.Buffer(torch.tensor(card["preprocess"][name]).view(1, 3, 1, 1))
            for name in ("mean", "std")
        )

    def forward(self, crops: Tensor) -> Tensor:
        inputs = (crops.to(torch.float32) / 255 - self.mean) / self.std
        logits, _ = logits_of(self.model(inputs))
        return calibrated(logits, *self.calibration)


def write(folder: Path, model: Exported) -> Path:
    """Write `model.pt2` and return its path.

    Its program takes uint8 (n, 3, crop, crop) and returns float64 (n, classes). The extra file
    `topwork.json` within has the labels and how an image becomes a crop.
    """
    side = model.card["preprocess"]["crop"]
    example = torch.zeros(BATCH, 3, side, side, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    served = _Served(model.network, model.card).eval()
    program = torch.export.export(served, (example,), dynamic_shapes=shapes)
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

    def answer(image: Image.Image) -> tuple[str, NDArray[np.float64]]:
        with torch.inference_mode():
            probabilities = program(torch.from_numpy(crop(image))[None])[0].numpy()
        return classes[int(probabilities.argmax())], probabilities

    return answer
