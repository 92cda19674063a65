"""A bundle becomes a model again, and what it only says of itself does not."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from core.system.atomic_files import write_atomically
from core.system.run_dir import RunDir
from models.evaluation import engine_choice
from models.export import plain
from models.export.forms import Exported
from models.import_model import import_model
from models.inference import artefact
from models.inference.classifier import Classifier
from models.inference.eager import Eager
from models.inference.network import Network
from models.planning import rejection
from models.planning.import_request import ImportRequest
from models.weights import bundle
from tests.models.publishing import write_lenet
from topwork.errors import ArchitectureUnknown, BundleInvalid, TopworkError

CLASSES = ["ants", "bees", "čmeláci"]
HEAD: dict[str, list[str]] = {"layers": ["classifier.2"], "auxiliary": []}
ORIGIN = {"weights": "model:pets@3", "sha256": "0" * 64, "of": {"weights": "imagenet"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_lenet(
        folder,
        CLASSES,
        head=HEAD,
        calibration={"temperature": 0.5, "ceiling": 0.9, "ece_after": 0.1, "images": 60},
        lineage=ORIGIN,
        metrics={"val": {"accuracy": 1.0}},
        dataset={"id": "ds_0123456789012345678901", "version": 1, "digest": "0" * 64},
    )
    return folder


def imported(bundle_file: Path, run: Path) -> Path:
    run.mkdir(exist_ok=True)
    request = ImportRequest(bundle=bundle_file)
    run.joinpath("request.json").write_text(request.model_dump_json())
    folder = RunDir(run)
    with closing(folder.events):
        import_model(folder)
    return folder.result


def packed(folder: Path, target: Path) -> Path:
    bundle.pack(target, (folder / artefact.CARD).read_bytes(), folder / artefact.WEIGHTS)
    return target


def test_what_was_exported_answers_alike_after_its_import(model: Path, tmp_path: Path) -> None:
    network, card = artefact.load(model)
    exported = plain.write(tmp_path, Exported("insects@3", network, card, model))
    result = imported(exported, tmp_path / "run")
    names = {path.name for path in result.iterdir()}
    assert names == {artefact.CARD, artefact.WEIGHTS, artefact.GRAPH}
    weights = (result / artefact.WEIGHTS).read_bytes()
    assert weights == (model / artefact.WEIGHTS).read_bytes()
    before, after = Classifier.from_artefact(model), Classifier.from_artefact(result)
    by_network = Classifier.of(artefact.read_card(result), Eager.from_artefact(result))
    rng = np.random.default_rng(1)
    for size in [(20, 1), (61, 333), (32, 32)]:
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        crops = [one.preprocess.uint8(image) for one in (before, after)]
        assert np.array_equal(crops[0], crops[1])
        old, new = (one.forward(crops[:1])[0] for one in (before, after))
        np.testing.assert_allclose(old, new, rtol=0, atol=engine_choice.CLOSE)
        assert old.argmax() == new.argmax()
        assert old.tobytes() == by_network.forward(crops[:1])[0].tobytes()


def test_a_card_is_written_anew(model: Path, tmp_path: Path) -> None:
    result = imported(packed(model, tmp_path / "model.zip"), tmp_path / "run")
    card = artefact.read_card(result)
    assert (card["metrics"], card["dataset"]) == ({}, None)
    assert (
        rejection.unavailable(card, 0.9) == card["rejection"]["reason"] == rejection.NO_REFERENCES
    )
    assert card["lineage"]["weights"] == "import"
    assert card["lineage"]["of"]["of"]["weights"] == "imagenet"
    assert (card["calibration"]["ceiling"], card["calibration"]["images"]) == (0.9, 60)
    again = imported(packed(model, tmp_path / "again.zip"), tmp_path / "other")
    assert (again / artefact.CARD).read_bytes() == (result / artefact.CARD).read_bytes()
    assert Network.from_artefact(result, "model:insects").classes == CLASSES


def spoiled(folder: Path, spoil: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / artefact.CARD).read_text())
    spoil(card)
    (folder / artefact.CARD).write_text(json.dumps(card))


def nan(folder: Path) -> None:
    state = load_file(folder / artefact.WEIGHTS)
    next(iter(state.values())).view(-1)[0] = float("nan")
    save_file(state, folder / artefact.WEIGHTS)
    spoiled(folder, lambda card: card.update(files=artefact.manifest(folder, artefact.WEIGHTS)))


def flipped(folder: Path) -> None:
    data = bytearray((folder / artefact.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / artefact.WEIGHTS).write_bytes(data)


SPOILS: dict[str, Callable[[Path], None]] = {
    "not finite": nan,
    "damaged": flipped,
    "no json": lambda it: write_atomically(it / artefact.CARD, b"{"),
    "future": lambda it: spoiled(it, lambda card: card.update(format=2)),
    "twins": lambda it: spoiled(it, lambda card: card.update(classes=["a", "b", "b"])),
    "surrogate": lambda it: spoiled(it, lambda card: card.update(classes=["a", "b", "\ud800"])),
    "fewer classes": lambda it: spoiled(it, lambda card: card.update(classes=["a", "b"])),
    "another network": lambda it: spoiled(it, lambda card: card.update(architecture="nin")),
    "no head": lambda it: spoiled(it, lambda card: card.update(head={"layers": []})),
    "no layer": lambda it: spoiled(it, lambda card: card.update(head=HEAD | {"layers": ["conv1"]})),
    "hidden": lambda it: spoiled(
        it, lambda card: card.update(head=HEAD | {"layers": ["features.0"]})
    ),
    "cold": lambda it: spoiled(it, lambda card: card.update(calibration={"temperature": 0})),
    "endless": lambda it: spoiled(it, lambda card: card.update(calibration={"temperature": 1e999})),
    "frozen": lambda it: spoiled(it, lambda card: card.update(calibration={"temperature": 1e-310})),
    "turned round": lambda it: spoiled(it, lambda card: card.update(calibration={"ceiling": 0.1})),
    "level": lambda it: spoiled(it, lambda card: card.update(calibration={"ceiling": 1 / 3})),
    "a list": lambda it: spoiled(it, lambda card: card.update(calibration=[1])),
    "lineage": lambda it: spoiled(it, lambda card: card.update(lineage={"weights": "a\0b"})),
    "large": lambda it: spoiled(it, lambda card: card["preprocess"].update(crop=2048, resize=2048)),
    "unfit": lambda it: spoiled(it, lambda card: card["preprocess"].update(crop=8)),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILS)
def test_what_cannot_answer_is_refused(model: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    SPOILS[name](folder)
    with pytest.raises(BundleInvalid) as refused:
        imported(packed(folder, tmp_path / "model.zip"), tmp_path / "run")
    assert refused.value.hint
    assert not (tmp_path / "run" / "result").exists()


@pytest.mark.parametrize("deep", [50, 100_000])
def test_a_long_lineage_ends_no_process(model: Path, tmp_path: Path, deep: int) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    text = (folder / artefact.CARD).read_text()
    origin = '{"weights": "x", "of": ' * deep + "null" + "}" * deep
    (folder / artefact.CARD).write_text(
        text.replace('"lineage": {', f'"lineage": {origin}, "x": {{')
    )
    try:
        imported(packed(folder, tmp_path / "model.zip"), tmp_path / "run")
    except BundleInvalid:
        assert deep > 50


def test_an_unknown_network_is_named(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    spoiled(folder, lambda card: card.update(architecture="resnet19"))
    with pytest.raises(TopworkError) as refused:
        imported(packed(folder, tmp_path / "model.zip"), tmp_path / "run")
    assert isinstance(refused.value, ArchitectureUnknown)
