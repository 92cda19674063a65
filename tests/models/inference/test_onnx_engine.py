"""What serves without torch answers as the network does, of the bytes that were hashed."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from core.system.atomic_files import sha256
from models.inference.card_file import CARD, GRAPH, WEIGHTS
from models.inference.classifier import Classifier
from models.inference.eager import Eager
from models.inference.onnx_engine import OnnxEngine
from tests.models.publishing import network_of, publish
from topwork.errors import IntegrityError

CLASSES = ["ant", "bee", "cicada"]

ANSWER = """
import io, sys
from pathlib import Path
from PIL import Image
from models.inference.classifier import Classifier
file = io.BytesIO()
Image.linear_gradient("L").save(file, "PNG")
classifier = Classifier.from_artefact(Path(sys.argv[1]))
row = classifier.forward([classifier.decode(file.getvalue())])[0]
print(classifier.rank(row, 1)["label"])
sys.exit("torch" in sys.modules)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish(tmp_path, network_of("lenet", CLASSES))
    return tmp_path


def crops(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def redone(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of a model, and let the card vouch for it."""
    (folder / name).write_bytes(data)
    card = json.loads((folder / CARD).read_text())
    card["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_any_number_of_images_gets_the_network_s_answers(folder: Path, count: int) -> None:
    served, network = Classifier.from_artefact(folder).engine, Eager.from_artefact(folder)
    assert isinstance(served, OnnxEngine)
    logits = served(crops(count))
    assert logits.dtype == np.float32
    assert logits == pytest.approx(network(crops(count)), abs=1e-5)


def test_no_torch_is_loaded_to_answer(folder: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", ANSWER, str(folder)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() in CLASSES


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_a_file_that_was_changed_is_not_used(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(IntegrityError, match="does not match"):
        Classifier.from_artefact(folder)


def test_a_graph_that_is_none_is_refused(folder: Path) -> None:
    redone(folder, GRAPH, b"no graph")
    with pytest.raises(IntegrityError, match="cannot load"):
        Classifier.from_artefact(folder)


def test_a_graph_reads_no_other_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One from elsewhere could name any file of this machine as weights."""
    monkeypatch.chdir(folder)
    (folder / "secret").write_bytes(bytes(4 * 3))
    graph = onnx.load(folder / GRAPH, load_external_data=False)
    stolen = helper.make_tensor("stolen", TensorProto.FLOAT, [3], [0.0] * 3)
    stolen.ClearField("float_data")
    stolen.data_location = TensorProto.EXTERNAL
    stolen.external_data.add(key="location", value="secret")
    graph.graph.initializer.append(stolen)
    last = next(node for node in graph.graph.node if "logits" in node.output)
    last.output[:] = ["before"]
    graph.graph.node.append(helper.make_node("Add", ["before", "stolen"], ["logits"]))
    redone(folder, GRAPH, graph.SerializeToString())
    with pytest.raises(IntegrityError, match="cannot load"):
        Classifier.from_artefact(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    redone(folder, WEIGHTS, bytes(data))
    with pytest.raises(IntegrityError, match="not finite"):
        Classifier.from_artefact(folder)


def test_a_bundle_without_its_graph_is_served_by_the_network(folder: Path) -> None:
    served = Classifier.from_artefact(folder)
    (folder / GRAPH).unlink()
    network = Classifier.from_artefact(folder)
    assert isinstance(network.engine, Eager)
    assert network.forward(crops(2)) == pytest.approx(served.forward(crops(2)), abs=1e-6)


def test_a_card_without_a_choice_is_served_by_the_network(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    del card["engine"]
    (folder / CARD).write_text(json.dumps(card))
    classifier = Classifier.from_artefact(folder, sha256(folder / CARD))
    assert isinstance(classifier.engine, Eager)
