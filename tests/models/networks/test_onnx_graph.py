"""A graph holds no weights and computes what the network does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from safetensors.torch import save_file
from torch import Tensor, nn

from models.compute.onnx_runtime import open_session
from models.inference.card_file import GRAPH, WEIGHTS
from models.inference.eager import Eager
from models.networks import onnx_graph, zoo
from models.planning import catalogue, heatmaps
from tests.models.publishing import network_of, publish

LEAST_SIDE = 64


def test_a_folder_is_a_model_for_any_program_that_reads_onnx(tmp_path: Path) -> None:
    network = network_of("squeezenet1_1", ["ant", "bee"], side=LEAST_SIDE)
    publish(tmp_path, network)
    crops = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    found = open_session(tmp_path / GRAPH).run(None, {"crops": crops})
    source = heatmaps.source("squeezenet1_1")
    wanted = Eager(network.model, network.preprocess, network.heads.main, source).mapped(crops)
    assert wanted.maps.shape == (3, 2, 3, 3)
    for values, others in zip(found, wanted, strict=True):
        assert values == pytest.approx(others, abs=1e-4)
    graph = onnx.load(tmp_path / GRAPH, load_external_data=False).graph
    assert all(value.data_location == TensorProto.EXTERNAL for value in graph.initializer)
    assert (tmp_path / GRAPH).stat().st_size < (tmp_path / WEIGHTS).stat().st_size / 20


def test_equal_values_stay_values_of_their_own(tmp_path: Path) -> None:
    """The exporter keeps one of equal tensors; fresh batch normalisation has dozens of them."""
    publish(tmp_path, network_of("resnet18", ["ant", "bee"], side=LEAST_SIDE))
    graph = onnx.load(tmp_path / GRAPH, load_external_data=False).graph
    state = zoo.shell("resnet18", 2).state_dict()
    wanted = {name for name in state if not name.endswith("num_batches_tracked")}
    assert {value.name for value in graph.initializer} == wanted


def test_a_network_that_is_not_in_the_file_has_no_graph(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / WEIGHTS)
    network, mean, std = nn.Sequential(nn.Conv2d(3, 2, 8)), (0.0,) * 3, (1.0,) * 3
    with pytest.raises(RuntimeError, match="lacks"):
        onnx_graph.made(network, "0", 8, mean, std, tmp_path / WEIGHTS)


def test_a_network_that_cannot_be_traced_has_no_graph(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.from_numpy(images.double().numpy().mean((1, 2)))

    save_file({"other": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(RuntimeError):
        onnx_graph.made(Broken(), "layer", 8, (0.0,) * 3, (1.0,) * 3, tmp_path / WEIGHTS)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", catalogue.names())
def test_every_network_has_a_graph_that_agrees(architecture: str, tmp_path: Path) -> None:
    card = publish(tmp_path, network_of(architecture, ["ant", "bee", "cicada"]))
    assert card["engine"]["refused"] == {}
    assert card["engine"]["max_difference"] < 1e-5
    assert card["engine"]["heatmap"] == (heatmaps.source(architecture) is not None)
