"""A graph serves only where it answers as the evaluated network did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.evaluation import engine_choice
from models.evaluation.abstention import Abstention
from models.evaluation.calibrate import Calibration
from models.evaluation.evaluate import Said
from models.inference import artefact
from models.inference.card_file import GRAPH
from models.inference.classifier import Classifier, Crops
from models.inference.network import Network
from models.inference.onnx_engine import OnnxEngine
from models.inference.outputs import Mapped
from models.inference.rejection import Rejection, unit
from tests.models.publishing import network_of

CROPS = np.random.default_rng(2).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> Network:
    return network_of("lenet", ["ant", "bee"])


def ask(classifier: Classifier) -> dict[str, Said]:
    said = Said(*map(torch.from_numpy, classifier.outputs(CROPS)))
    return {"test": Said(*(values[:2].clone() for values in said)), "val": said}


def chosen(
    folder: Path,
    network: Network,
    evaluated: dict[str, Said],
    rejection: Rejection | None = None,
) -> dict[str, Any]:
    """Write a model and return what its card says about engines."""

    def engine() -> artefact.Card:
        features = {split: one.features for split, one in evaluated.items()}
        judged = Abstention.of(rejection, features) if rejection else None
        told = engine_choice.choose(folder, network, Calibration(), evaluated, ask, judged)
        return {"engine": told}

    card = {
        "architecture": network.architecture.name,
        "classes": network.classes,
        "preprocess": network.preprocess.to_dict(),
    }
    written = artefact.write(folder, network.model, card, engine)
    assert written == artefact.read_card(folder)
    assert (GRAPH in written["files"]) == (folder / GRAPH).exists()
    return dict(written["engine"])


def test_a_graph_that_agrees_serves(tmp_path: Path, network: Network) -> None:
    told = chosen(tmp_path, network, ask(network.classifier()))
    assert told["name"] == "onnxruntime"
    assert told["images"] == 8
    assert 0 <= told["max_difference"] < 1e-6
    assert told["refused"] == {}
    assert (tmp_path / GRAPH).exists()


@pytest.mark.parametrize("fault", ["label", "confidence", "not finite"])
def test_a_graph_that_differs_on_one_image_does_not(
    tmp_path: Path, network: Network, fault: str
) -> None:
    evaluated = ask(network.classifier())
    row = evaluated["val"].logits[3]
    if fault == "label":
        row.copy_(row.flip(0))
    elif fault == "confidence":
        row[row.argmax()] += 0.01
    else:
        row[0] = float("nan")
    told = chosen(tmp_path, network, evaluated)
    assert told["name"] == "torch"
    assert "differ" in told["refused"]["onnxruntime"]
    assert (told["max_difference"] is None) == (fault == "not finite")
    assert told["images"] == 8
    assert not (tmp_path / GRAPH).exists()
    assert Classifier.from_artefact(tmp_path).forward(CROPS).shape == (6, 2)


@pytest.mark.parametrize("abstains", [True, False])
def test_similarity_counts_where_the_model_abstains(
    tmp_path: Path, network: Network, *, abstains: bool
) -> None:
    evaluated = ask(network.classifier())
    seen = evaluated["val"].features
    known = Rejection(unit(seen.numpy().copy()), 1, np.ones(6), np.ones(6))
    for name in ("same", "other"):
        (tmp_path / name).mkdir()
    same = chosen(tmp_path / "same", network, evaluated, known)
    assert same["name"] == "onnxruntime"
    seen[3] = seen[3].roll(1)
    told = chosen(tmp_path / "other", network, evaluated, known if abstains else None)
    assert told["name"] == ("torch" if abstains else "onnxruntime")
    assert ("similarities" in told["refused"].get("onnxruntime", "")) == abstains
    assert (tmp_path / "other" / GRAPH).exists() != abstains


def test_a_graph_whose_maps_are_others_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = network_of("nin", ["ant", "bee"])
    told = chosen(tmp_path, small, ask(small.classifier()))
    assert (told["name"], told["heatmap"]) == ("onnxruntime", True)
    mapped = OnnxEngine.mapped

    def moved(engine: OnnxEngine, crops: Crops) -> Mapped:
        found = mapped(engine, crops)
        return found._replace(maps=np.flip(found.maps, 3))

    monkeypatch.setattr(OnnxEngine, "mapped", moved)
    told = chosen(tmp_path, small, ask(small.classifier()))
    assert told["name"] == "torch"
    assert "maps" in told["refused"]["onnxruntime"]


def test_a_network_without_a_graph_is_published(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("The network cannot be traced: it is what it is")

    monkeypatch.setattr("models.networks.onnx_graph.made", broken)
    told = chosen(tmp_path, network, ask(network.classifier()))
    assert told["name"] == "torch"
    assert "cannot be traced" in told["refused"]["onnxruntime"]
    assert not (tmp_path / GRAPH).exists()
