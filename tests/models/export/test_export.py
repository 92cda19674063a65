"""A trained model leaves as a file that answers as the service does, without it."""

import json
import re
import subprocess
import sys
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from core.system.run_dir import RunDir
from models.compute.onnx_runtime import open_session
from models.evaluation import abstention
from models.evaluation.abstention import Abstention, Seen
from models.export import onnx_file, parity, plain, torch_program
from models.export.__main__ import FORMS, export
from models.export.forms import Answer
from models.inference import artefact
from models.inference.classifier import Classifier
from models.inference.preprocess import REVISION, Preprocess
from models.inference.rejection import Rejection
from models.planning import catalogue
from models.planning.export_request import FIRST_PIXELS, ExportRequest
from tests.colour_profiles import ADOBE, profile
from tests.models.publishing import network_of, publish, write_lenet
from tests.pictures import encode, photo
from topwork.errors import ExportParityFailed, InvalidField
from topwork.kinds import ExportFormat

CLASSES = ["ants", "bees", "čmeláci"]
CEILING = 0.9
# Neither torch nor Topwork can be imported where this runs first.
ALONE = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'models', 'core', 'topwork']))\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_lenet(folder, CLASSES, seed=5, calibration={"temperature": 0.05, "ceiling": CEILING})
    return folder


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize("form", [ExportFormat.ONNX, ExportFormat.TORCH])
def test_an_export_sees_of_a_long_image_what_the_service_sees(
    tmp_path: Path, form: ExportFormat, fit: str
) -> None:
    network = network_of("lenet", CLASSES)
    network.preprocess = replace(network.preprocess, fit=fit)
    (tmp_path / "model").mkdir()
    (tmp_path / "run").mkdir()
    publish(tmp_path / "model", network)
    file = FORMS[form].answers(
        exported(tmp_path / "model", tmp_path / "run", form) / FORMS[form].NAME
    )
    service = Classifier.from_artefact(tmp_path / "model")
    for size in ((1000, 300), (300, 1000), (20, 400), (64, 64)):
        image = photo(*size)
        want = service.forward([service.preprocess.uint8(image)])[0]
        np.testing.assert_allclose(file(image).probabilities, want, atol=1e-6)


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with calibration, known images and thresholds among its scores."""
    folder = tmp_path_factory.mktemp("careful")
    plain: dict[str, Any] = {
        "head": {"layers": [catalogue.get("lenet").head], "auxiliary": []},
        "calibration": {"temperature": 0.01, "ceiling": 0.9},
    }
    write_lenet(folder, CLASSES, seed=5, **plain)
    classifier = Classifier.from_artefact(folder)
    crops = [classifier.preprocess.uint8(image) for _, image in parity.made()]
    outputs = classifier.outputs(crops)
    features = torch.from_numpy(outputs.features)
    sure = torch.from_numpy(classifier.forward(crops)).amax(1)
    seen = [Seen(features.repeat(9, 1), sure.repeat(9), torch.arange(12).repeat(9))]
    rejection = abstention.fit(features, torch.zeros(12).long(), seen, torch.arange(12))
    assert isinstance(rejection, Rejection)
    plain["rejection"] = Abstention.of(rejection, {}).stated()
    write_lenet(folder, CLASSES, seed=5, known=rejection, **plain)
    return folder


def exported(model: Path, run: Path, form: ExportFormat) -> Path:
    request = ExportRequest(name="insects@3", format=form, model=model)
    run.joinpath("request.json").write_text(request.model_dump_json())
    folder = RunDir(run)
    with closing(folder.events):
        export(folder)
    return folder.result


@pytest.fixture(scope="module")
def onnx_result(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(model, tmp_path_factory.mktemp("onnx"), ExportFormat.ONNX)


def test_an_onnx_file_is_whole_and_says_what_it_is(model: Path, onnx_result: Path) -> None:
    assert {path.name for path in onnx_result.iterdir()} == {onnx_file.NAME, parity.REPORT}
    proto = onnx.load(onnx_result / onnx_file.NAME, load_external_data=False)
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert not proto.functions
    words = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(words["classes"]) == CLASSES
    assert words["model"] == "insects@3"
    digest = artefact.read_card(model)["files"][artefact.WEIGHTS]["sha256"]
    assert words["digest"] == f"sha256:{digest}"
    assert (float(words["temperature"]), float(words["ceiling"])) == (0.05, CEILING)
    report = json.loads((onnx_result / parity.REPORT).read_text())
    assert report["made"]["images"] == report["made"]["alike"] == 2 * len(parity.MADE)
    assert report["made"]["max_difference"] <= 1e-5


def test_it_answers_as_the_service(model: Path, onnx_result: Path) -> None:
    session = open_session(onnx_result / onnx_file.NAME)
    classifier = Classifier.from_artefact(model)
    rng = np.random.default_rng(1)
    for size in [(1, 20), (20, 1), (61, 333), (333, 61), (32, 32)]:
        image = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        probabilities, label = session.run(["probabilities", "label"], {"image": image})
        served = classifier.forward([classifier.preprocess.uint8(Image.fromarray(image))])[0]
        assert label == CLASSES[int(served.argmax())]
        assert float(np.abs(probabilities - served).max()) <= 1e-5
        assert probabilities.dtype == np.float32
        assert probabilities.max() <= CEILING + 1e-6


def test_ten_lines_use_it_without_topwork(model: Path, onnx_result: Path, tmp_path: Path) -> None:
    """Those of the documentation, on a turned photograph in Adobe RGB that is decoded small."""
    text = Path("docs/artefact.md").read_text(encoding="utf-8")
    lines = re.findall(r"```python\n(import io, json, numpy.*?)```", text, re.DOTALL)
    assert len(lines) == 1
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = profile(ADOBE, "Adobe RGB (1998)")
    data = encode(photo(400, 300), "JPEG", quality=90, exif=exif, icc_profile=wide)
    (tmp_path / "image.jpg").write_bytes(data)
    (tmp_path / onnx_file.NAME).write_bytes((onnx_result / onnx_file.NAME).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", ALONE + lines[0]],
        cwd=tmp_path, env={"ORT_DISABLE_TELEMETRY": "1"}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    classifier = Classifier.from_artefact(model)
    answer = classifier.rank(classifier.forward([classifier.decode(data)])[0], 1)
    label, confidence = done.stdout.split()
    assert label == answer["label"]
    assert float(confidence) == pytest.approx(answer["confidence"], abs=1e-5)


def test_a_torch_program_takes_crops(model: Path, tmp_path: Path) -> None:
    result = exported(model, tmp_path, ExportFormat.TORCH)
    program = torch.export.load(result / torch_program.NAME).module()
    crops = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    served = Classifier.from_artefact(model).forward(crops.numpy())
    # A temperature of 0.05 makes 5e-5 of a rounding error of 1e-5 in a logit.
    np.testing.assert_allclose(program(crops).detach(), served, rtol=0, atol=5e-5)
    assert float(served.max()) == pytest.approx(CEILING, abs=0.01)
    report = json.loads((result / parity.REPORT).read_text())
    assert report["made"]["alike"] == report["made"]["images"]
    assert report["made"]["max_difference"] <= 1e-5


def test_a_bundle_is_the_artefact(model: Path, tmp_path: Path) -> None:
    result = exported(model, tmp_path, ExportFormat.BUNDLE)
    assert {path.name for path in result.iterdir()} == {plain.NAME, parity.REPORT}
    with zipfile.ZipFile(result / plain.NAME) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    whole = {name: (model / name).read_bytes() for name in (artefact.CARD, artefact.WEIGHTS)}
    assert files == whole
    report = json.loads((result / parity.REPORT).read_text())
    assert report["made"]["alike"] == report["made"]["images"]
    assert report["made"]["max_difference"] == 0


def test_what_serves_is_asked_and_not_the_network(tmp_path: Path) -> None:
    """A graph that answers otherwise than its network is what a file must agree with."""
    model, run = tmp_path / "model", tmp_path / "run"
    for folder in (model, run):
        folder.mkdir()
    card = publish(model, network_of("lenet", CLASSES))
    graph = onnx.load(model / artefact.GRAPH, load_external_data=False)
    for node in graph.graph.node:
        node.output[:] = ["plain" if name == "logits" else name for name in node.output]
    graph.graph.node.append(onnx.helper.make_node("Neg", ["plain"], ["logits"]))
    (model / artefact.GRAPH).write_bytes(graph.SerializeToString())
    card["files"] = artefact.manifest(model, artefact.WEIGHTS, artefact.GRAPH)
    (model / artefact.CARD).write_bytes(artefact.text_of(card))
    with pytest.raises(ExportParityFailed):
        exported(model, run, ExportFormat.BUNDLE)


def test_pixels_of_an_earlier_revision(model: Path, tmp_path: Path) -> None:
    """An ONNX file would compute them otherwise; a program of torch leaves them to its caller."""
    network, card = artefact.load(model)
    old = {name: value for name, value in card["preprocess"].items() if name != "revision"}
    early, run = tmp_path / "early", tmp_path / "run"
    early.mkdir()
    artefact.write(early, network, card | {"preprocess": old})
    for form in ExportFormat:
        (run / form).mkdir(parents=True)
    with pytest.raises(InvalidField, match="revision 1"):
        exported(early, run / "onnx", ExportFormat.ONNX)
    result = exported(early, run / "torch", ExportFormat.TORCH)
    words = {torch_program.METADATA: ""}
    torch.export.load(result / torch_program.NAME, extra_files=words)
    facts = json.loads(words[torch_program.METADATA])
    assert json.loads(facts["preprocess"])["revision"] == 1


def test_the_graph_of_pixels_is_of_the_latest_revision() -> None:
    """A revision that computes them otherwise needs a graph of its own, or a refusal."""
    image = Image.effect_noise((301, 200), 90).convert("RGB")
    latest = Preprocess.for_architecture("mobilenet_v2")
    assert latest.revision == REVISION
    first = replace(latest, revision=FIRST_PIXELS)
    assert (first.uint8(image) == latest.uint8(image)).all()


def test_a_file_that_answers_otherwise_is_refused(model: Path, tmp_path: Path) -> None:
    classifier = Classifier.from_artefact(model)

    def contrary(image: Image.Image) -> Answer:
        served = classifier.forward([classifier.preprocess.uint8(image)])[0]
        return Answer(CLASSES[int(served.argmin())], served)

    run = RunDir(tmp_path)
    with closing(run.events), pytest.raises(ExportParityFailed, match="12 of 12 images: smooth"):
        parity.check(run, classifier, contrary, None)


@pytest.mark.parametrize("form", [ExportFormat.ONNX, ExportFormat.TORCH])
def test_a_file_abstains_as_the_service_does(
    careful: Path, tmp_path: Path, form: ExportFormat
) -> None:
    result = exported(careful, tmp_path, form)
    report = json.loads((result / parity.REPORT).read_text())["made"]
    assert report["alike"] == report["images"]
    assert report["max_difference"] < 1e-5
    classifier, answers = Classifier.from_artefact(careful), FORMS[form].answers
    ask, told = answers(next(result.glob("model.*"))), set()
    rng = np.random.default_rng(2)
    for level in range(0, 250, 10):
        pixels = rng.integers(level // 2, level + 5, (40, 40, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        [(row, similarity)] = classifier.answer([classifier.preprocess.uint8(image)]).rows()
        wanted = classifier.rank(row, 1, similarity, classifier.thresholds())
        assert ask(image).reason == wanted["reason"]
        told.add(wanted["reason"])
    assert len(told) > 1


def test_thresholds_of_an_onnx_file_are_an_input(careful: Path, tmp_path: Path) -> None:
    session = open_session(exported(careful, tmp_path, ExportFormat.ONNX) / onnx_file.NAME)
    image = np.full((40, 40, 3), 90, np.uint8)
    decisions = [
        session.run(["decision", "reason", "similarity"], {"image": image, "thresholds": pair})
        for pair in (np.array([-1.0, 0.0]), np.array([1.1, 0.0]), np.array([-1.0, 1.0]))
    ]
    assert [tuple(map(str, one[:2])) for one in decisions] == [
        ("accept", ""),
        ("abstain", "unknown"),
        ("abstain", "unsure"),
    ]
    words = session.get_modelmeta().custom_metadata_map
    assert json.loads(words["rejection"]) == artefact.read_card(careful)["rejection"]
    assert -1 <= float(decisions[0][2]) <= 1
