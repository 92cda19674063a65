"""What every form of an exported model has: something to ask, and words about the model."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from models.inference.calibration import stated
from models.inference.preprocess import Preprocess
from models.planning import catalogue


class Answer(NamedTuple):
    """What a file says about an image: label, probabilities of all classes, why it abstains.

    A form that does not say what is relied on is not `judged`.
    """

    label: str
    probabilities: NDArray[np.float64]
    reason: str | None = None
    judged: bool = True


Answers = Callable[[Image.Image], Answer]
"""From an upright RGB image to the answer."""


@dataclass(frozen=True)
class Exported:
    """What is to be written.

    Args:
        name: What the file calls the model: `pets@3`.
        network: With its weights, in eval mode.
        card: Of the artefact.
        files: Folder of the artefact.
    """

    name: str
    network: nn.Module
    card: dict[str, Any]
    files: Path


def metadata(model: Exported) -> dict[str, str]:
    """Return what a file says about its model, by key, as JSON or text."""
    card = model.card
    temperature, ceiling = stated(card)
    return {
        "model": model.name,
        "architecture": card["architecture"],
        "digest": f"sha256:{card['files']['weights.safetensors']['sha256']}",
        "classes": json.dumps(card["classes"], ensure_ascii=False),
        "preprocess": json.dumps(Preprocess.from_dict(card["preprocess"]).to_dict()),
        "temperature": repr(temperature),
        "ceiling": repr(ceiling),
        "rejection": json.dumps(card.get("rejection")),
        "license": _license(card),
        "lineage": json.dumps(card.get("lineage")),
    }


def _license(card: dict[str, Any]) -> str:
    """Return the address of the licence of the weights that training started from, if it has one.

    It is empty where they are under the licence of the code that defines the network.
    """
    origin = card.get("lineage") or {}
    while isinstance(origin.get("of"), dict):
        origin = origin["of"]
    published = catalogue.get(card["architecture"]).weights
    known = published is not None and origin.get("weights") == "imagenet"
    return (published.license or "") if known and published else ""
