"""A trained model's graph in ONNX Runtime, an engine that needs no torch."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.system.machine import cores
from models.compute.onnx_runtime import open_session
from models.inference.card_file import CARD, GRAPH, WEIGHTS, Card
from models.inference.outputs import LinearHead, Mapped, Outputs
from models.networks import weights_file
from models.networks.weights_file import COUNTER
from models.planning import catalogue, heatmaps
from topwork.errors import IntegrityError, WeightsMismatch

NAME = heatmaps.GRAPH_ENGINE
LOGITS, FEATURES, MAPS = "logits", "features", "maps"
"""Outputs of a graph; the last one only of networks whose maps explain answers."""
MAX_GRAPH_BYTES = 64 * 1024 * 1024  # Measured 0.01 to 1 MB; weights are not in it.
# What a session holds besides the weights: its plan, and copies of some weights in another order.
# `bench/session_memory.py` measures both together.
SESSION_BYTES = 2 * 1024 * 1024
COPIED = 8  # One part in so many of the weights.
# All that the files of trained models hold.
_DTYPES: dict[str, type[np.generic]] = {"F32": np.float32, "I64": np.int64}


class OnnxEngine:
    """A graph of `models.networks.onnx_graph` with its weights.

    Args:
        graph: Its bytes.
        weights: Every value that it names; they stay in memory as they are.
        head: Name of the layer that decides the classes.

    Raises:
        RuntimeError: ONNX Runtime cannot run it.
    """

    def __init__(self, graph: bytes, weights: Mapping[str, NDArray[Any]], head: str) -> None:
        size = sum(value.nbytes for value in weights.values())
        self.nbytes = size + size // COPIED + SESSION_BYTES
        self._session = open_session(graph, threads=cores(), weights=weights)
        self.has_maps = MAPS in {output.name for output in self._session.get_outputs()}
        weight = weights[f"{head}.weight"]
        linear = weight.ndim == 2  # noqa: PLR2004 - a convolution has a map of each class.
        self.head = LinearHead(weight, weights[f"{head}.bias"]) if linear else None

    @classmethod
    def from_artefact(cls, folder: Path, card: Card) -> "OnnxEngine":
        """Load a trained model's graph and weights, of the very bytes that were hashed.

        Raises:
            IntegrityError: A file is damaged or does not fit the card, or a value is not finite.
        """
        try:
            with (folder / GRAPH).open("rb") as file:
                graph = file.read(MAX_GRAPH_BYTES)
            wanted = card["files"][GRAPH]["sha256"]
        except (OSError, KeyError, TypeError) as error:
            raise IntegrityError(f"The model's {GRAPH} cannot be read: {error!r}.") from error
        if hashlib.sha256(graph).hexdigest() != wanted:
            raise IntegrityError(f"{GRAPH} does not match its recorded hash.")
        try:
            values = _values(folder / WEIGHTS, card["files"][WEIGHTS]["sha256"])
            return cls(graph, values, _head(card))
        except (RuntimeError, WeightsMismatch, KeyError) as error:
            raise IntegrityError(f"{GRAPH} and {WEIGHTS} do not fit {CARD}: {error}") from error

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 logits (N, classes) of uint8 crops (N, 3, H, W)."""
        return self._run([LOGITS], crops)[0]

    def outputs(self, crops: NDArray[np.uint8]) -> Outputs:
        """Return the same with the features (N, d) that the logits are made of."""
        return Outputs(*self._run([LOGITS, FEATURES], crops))

    def mapped(self, crops: NDArray[np.uint8]) -> Mapped:
        """Return the same with the maps (N, k, h, w) whose average the logits are made of."""
        return Mapped(*self._run([LOGITS, FEATURES, MAPS], crops))

    def _run(self, names: list[str], crops: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        try:
            found = self._session.run(names, {"crops": crops})
        except Exception as error:  # Its classes have no common one but this.
            raise RuntimeError(f"ONNX Runtime could not run the graph: {error}") from error
        return [np.asarray(values, dtype=np.float32) for values in found]


def _head(card: Card) -> str:
    """Return the layer that the card names; that of the architecture, where it names none."""
    if "head" in card:
        return str(card["head"]["layers"][-1])
    return catalogue.get(card["architecture"]).head


def _values(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    found = weights_file.read(path, sha256).values
    values = {}
    for name, value in found.items():
        array = value.array(_DTYPES)
        if not np.isfinite(array.sum(dtype=np.float64)):
            raise IntegrityError(f"The weights hold values that are not finite, in '{name}'.")
        if not name.endswith(COUNTER):
            values[name] = array
    return values
