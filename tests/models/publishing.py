"""Publish a network as the trainer does, its graph included, without training it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.evaluation import engine_choice
from models.evaluation.calibrate import Calibration
from models.inference import artefact
from models.inference.network import Network
from models.inference.preprocess import Preprocess
from models.inference.rejection import Rejection, unit
from models.networks import head, zoo
from models.planning import catalogue

LENET_FEATURES = 84  # What enters its last layer.


def network_of(architecture: str, classes: list[str], *, side: int | None = None) -> Network:
    """Return a network with random weights, always the same."""
    torch.manual_seed(0)
    model = zoo.build(architecture, len(classes), auxiliary=False).eval()
    preprocess = Preprocess.for_architecture(architecture)
    preprocess = preprocess if side is None else preprocess.at(side)
    heads = head.find(model, len(classes))
    return Network(catalogue.get(architecture), model, heads, classes, preprocess, {})


def write_lenet(
    folder: Path,
    classes: list[str],
    *,
    seed: int = 1,
    known: Rejection | None = None,
    **changes: Any,
) -> artefact.Card:
    """Write a LeNet with random weights and no graph; `changes` are fields of its card."""
    torch.manual_seed(seed)
    card = {
        "architecture": "lenet",
        "classes": classes,
        "preprocess": Preprocess.for_architecture("lenet").to_dict(),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    return artefact.write(folder, zoo.build("lenet", len(classes)), card, rejection=known)


def known_images(size: int, *, scores: int = 60) -> Rejection:
    """Return so many random references of a LeNet, with evenly spread scores of other images."""
    references = np.random.default_rng(2).normal(size=(size, LENET_FEATURES)).astype(np.float32)
    spread = np.linspace(0.1, 1.0, scores)
    return Rejection(unit(references), 1, spread, spread)


def publish(folder: Path, network: Network) -> artefact.Card:
    """Write the network with its graph, compared on noise alone; return the card."""
    card = {
        "architecture": network.architecture.name,
        "classes": network.classes,
        "preprocess": network.preprocess.to_dict(),
    }

    def engine() -> artefact.Card:
        return {"engine": engine_choice.choose(folder, network, Calibration(), {}, lambda _: {})}

    return artefact.write(folder, network.model, card, engine)
