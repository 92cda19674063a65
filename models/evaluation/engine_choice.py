"""Choose what serves a model: its graph in ONNX Runtime, where that answers as the network does.

The trainer calls it at publication, when the weights are written. What is evaluated is the network
itself, so the graph serves only if it gives every evaluated image the same label, nearly the same
confidence and, where the model abstains, nearly the same similarity to known images; otherwise the
network does, and the card says why.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.system.atomic_files import write_atomically
from models.evaluation.abstention import Abstention
from models.evaluation.calibrate import Calibration
from models.evaluation.evaluate import Said
from models.inference import onnx_engine
from models.inference.card_file import GRAPH, WEIGHTS
from models.inference.classifier import Classifier, Crops, Engine
from models.inference.network import Network
from models.inference.onnx_engine import OnnxEngine
from models.networks import onnx_graph
from models.networks.weights_file import COUNTER
from models.planning import heatmaps
from topwork.errors import IntegrityError, OutOfMemory

EAGER = "torch"
CLOSE = 1e-4  # Between confidences of 0..1; 3e-6 was the most on 353 photographs.
_ALONE, _TOGETHER = 1, 3  # Made images are asked so many at a time: a graph must take any number.

Outputs = Mapping[str, Said]


def choose(
    folder: Path,
    network: Network,
    calibration: Calibration,
    evaluated: Outputs,
    ask: Callable[[Classifier], Outputs],
    abstention: Abstention | None = None,
) -> dict[str, Any]:
    """Write the graph into the folder of a model's weights, and return the card's `engine`.

    Args:
        folder: Holds the weights.
        network: In eval mode on the CPU, as it is in the file.
        calibration: By which confidences are compared.
        evaluated: What the network said, by split.
        ask: Returns what a classifier says about the same images.
        abstention: By which the model abstains, if it does, and how it judges the same images.
    """
    try:
        graph = _graph(folder, network)
        engine = OnnxEngine(graph, _arrays(network), network.heads.main)
        found = {**ask(network.classifier(engine)), **_made(network, engine)}
        wanted = {**evaluated, **_made(network, network.classifier().engine)}
    except (RuntimeError, MemoryError, OutOfMemory, IntegrityError) as error:
        return _refused(folder, f"it does not run: {error}")
    images = sum(len(said.logits) for said in evaluated.values())
    pairs = [(wanted[name], found[name]) for name in wanted]
    other = sum(int((one.logits.argmax(1) != two.logits.argmax(1)).sum()) for one, two in pairs)
    served = calibration.served
    apart = [(served(one.logits) - served(two.logits)).abs().amax(1) for one, two in pairs]
    farthest = float(torch.cat(apart).max())  # Not finite where one of them is not.
    known = math.isfinite(farthest)
    compared = {"images": images, "max_difference": farthest if known else None}
    if other or not farthest <= CLOSE:
        words = f"{other} labels differ, and confidences by {farthest:.2g} at most"
        return _refused(folder, words) | compared
    alike = _similarity_gap(wanted, found, abstention or Abstention())
    if not alike <= CLOSE:
        words = f"similarities to known images differ by {alike:.2g} at most"
        return _refused(folder, words) | compared
    if not (gap := _map_gap(network, engine)) <= CLOSE:
        return _refused(folder, f"parts of its maps differ by {gap:.2g} at most") | compared
    return {"name": onnx_engine.NAME, **compared, "heatmap": engine.has_maps, "refused": {}}


def _graph(folder: Path, network: Network) -> bytes:
    preprocess = network.preprocess
    graph = onnx_graph.made(
        network.model,
        network.heads.main,
        preprocess.crop,
        preprocess.mean,
        preprocess.std,
        folder / WEIGHTS,
        heatmaps.source(network.architecture.name),
    )
    write_atomically(folder / GRAPH, graph)
    return graph


def _refused(folder: Path, reason: str) -> dict[str, Any]:
    (folder / GRAPH).unlink(missing_ok=True)
    refused = {onnx_engine.NAME: reason}
    return {"name": EAGER, "images": 0, "max_difference": None, "refused": refused}


def _arrays(network: Network) -> dict[str, NDArray[Any]]:
    """Return the network's values, which are not copied."""
    state = network.model.state_dict()
    return {
        name: tensor.detach().contiguous().numpy()
        for name, tensor in state.items()
        if not name.endswith(COUNTER)
    }


def _similarity_gap(wanted: Outputs, found: Outputs, abstention: Abstention) -> float:
    """Return the most by which two engines differ in the similarity of an image."""
    if abstention.rejection is None:
        return 0.0
    known = abstention.similarities
    new = {name: said.features for name, said in wanted.items() if name not in known}
    made = Abstention.of(abstention.rejection, new).similarities
    other = Abstention.of(
        abstention.rejection, {name: found[name].features for name in wanted}
    ).similarities
    gaps = [(one - other[name]).abs() for name, one in {**known, **made}.items()]
    return float(torch.cat(gaps).max())


def _map_gap(network: Network, engine: OnnxEngine) -> float:
    """Return the most by which the maps of two engines differ, in parts of the largest value."""
    if not engine.has_maps:
        return 0.0
    crops = _noise(network)[-1]
    one, two = (some.mapped(crops).maps for some in (network.classifier().engine, engine))
    return float(np.abs(one - two).max() / max(1.0, float(np.abs(one).max())))


def _made(network: Network, engine: Engine) -> dict[str, Said]:
    """Return what is said of noise: a model without held-out images is compared as well."""
    answers = [engine.outputs(crops) for crops in _noise(network)]
    rows = (np.concatenate(values) for values in zip(*answers, strict=True))
    return {"made": Said(*map(torch.from_numpy, rows))}


def _noise(network: Network) -> list[Crops]:
    side = network.preprocess.crop
    generator = np.random.default_rng(0)
    sizes = (_ALONE, _TOGETHER)
    return [generator.integers(0, 256, (size, 3, side, side), dtype=np.uint8) for size in sizes]
