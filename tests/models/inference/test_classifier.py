"""Decode, forward, rank: the answers a classifier gives, and that grouping does not change them."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.inference import artefact
from models.inference.calibration import probabilities, served
from models.inference.classifier import Classifier, Crops, Label
from models.inference.eager import Eager, forward
from models.inference.outputs import Mapped, Outputs
from models.inference.preprocess import Preprocess
from models.networks import zoo
from models.planning import catalogue
from tests.models.publishing import write_lenet
from topwork.errors import ImageUndecodable, IntegrityError, WeightsMismatch


class Fixed:
    """An engine that answers the same logits to every image."""

    nbytes = 0
    has_maps = False
    head = None

    def __init__(self, *logits: float) -> None:
        self._logits = np.array(logits, dtype=np.float32)

    def __call__(self, crops: Crops) -> NDArray[np.float32]:
        return np.tile(self._logits, (len(crops), 1))

    def outputs(self, crops: Crops) -> Outputs:
        return Outputs(self(crops), crops.reshape(len(crops), -1).astype(np.float32))

    def mapped(self, crops: Crops) -> Mapped:
        raise NotImplementedError


def fixed(*logits: float, temperature: float = 1.0, ceiling: float = 1.0) -> Classifier:
    preprocess = Preprocess.for_architecture("lenet")
    labels = [Label(name) for name in "abcdefgh"[: len(logits)]]
    return Classifier(Fixed(*logits), preprocess, labels, temperature=temperature, ceiling=ceiling)


def images(count: int) -> list[Crops]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, 256, (3, 32, 32), dtype=np.uint8) for _ in range(count)]


def test_rank_orders_by_confidence_and_says_so() -> None:
    classifier = fixed(1.0, 3.0, 2.0)
    answer = classifier.rank(classifier.forward(images(1))[0], 2)
    total = sum(math.exp(logit) for logit in (1, 2, 3))
    assert answer["decision"] == "accept"
    assert answer["label"] == "b"
    assert answer["confidence"] == pytest.approx(math.exp(3) / total, abs=1e-12)
    assert [entry["label"] for entry in answer["predictions"]] == ["b", "c"]
    assert [entry["index"] for entry in answer["predictions"]] == [1, 2]
    assert answer["predictions"][0] == {
        "label": "b",
        "index": 1,
        "confidence": answer["confidence"],
    }


def test_top_k_is_cut_to_the_number_of_classes_and_sums_to_one() -> None:
    classifier = fixed(0.5, -1.0, 40.0)
    predictions = classifier.rank(classifier.forward(images(1))[0], 99)["predictions"]
    assert len(predictions) == 3
    assert sum(entry["confidence"] for entry in predictions) == pytest.approx(1, abs=1e-12)


def test_ties_stand_in_the_order_of_the_network() -> None:
    classifier = fixed(*[2.0] * 8)
    predictions = classifier.rank(classifier.forward(images(1))[0], 8)["predictions"]
    assert [entry["index"] for entry in predictions] == list(range(8))


def test_temperature_changes_the_confidence_and_never_the_label() -> None:
    sharp, soft = fixed(1.0, 3.0), fixed(1.0, 3.0, temperature=4.0)
    rows = [classifier.forward(images(1))[0] for classifier in (sharp, soft)]
    assert rows[0][1] == pytest.approx(1 / (1 + math.exp(-2)))
    assert rows[1][1] == pytest.approx(1 / (1 + math.exp(-0.5)))
    for bad in (0.0, -1.0, 1e-310, 1e-271, float("nan"), float("inf")):
        with pytest.raises(IntegrityError):
            fixed(1.0, temperature=bad)


@pytest.mark.parametrize("temperature", [1e-269, 1e300])
def test_every_temperature_that_is_taken_has_an_answer(temperature: float) -> None:
    largest = float(np.finfo(np.float32).max)
    classifier = fixed(-largest, largest, temperature=temperature)
    row = classifier.forward(images(1))[0]
    assert np.isfinite(row).all()
    assert row[1] >= row[0]


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_a_ceiling_that_would_change_labels_is_none(classes: int) -> None:
    """At 1 / classes all confidences are equal, and below it the worst class comes first."""
    logits = [float(number) for number in range(classes)]
    for bad in (0.0, 0.5 / classes, 1 / classes, 1.1, float("nan")):
        with pytest.raises(IntegrityError, match="ceiling"):
            fixed(*logits, ceiling=bad)
    low = fixed(*logits, ceiling=1.01 / classes)
    row = low.forward(images(1))[0]
    assert row.argmax() == classes - 1
    assert row.max() <= 1.01 / classes
    assert fixed(1.0, ceiling=0.5).forward(images(1)).tolist() == [[1.0]]


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.5, 10.0])
def test_no_temperature_changes_a_label_or_the_order(temperature: float) -> None:
    logits = 5 * torch.randn(2000, 7, generator=torch.Generator().manual_seed(4))
    shown = probabilities(logits, temperature)
    assert torch.equal(shown.argmax(1), logits.argmax(1))
    assert torch.equal(shown.argsort(1), logits.argsort(1))
    assert torch.allclose(shown.sum(1), torch.ones(2000, dtype=torch.float64))


@pytest.mark.parametrize("ceiling", [1.0, 0.97])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 3.0])
def test_the_service_computes_confidences_as_the_evaluation_does(
    temperature: float, ceiling: float
) -> None:
    logits = 50 * torch.randn(500, 7, generator=torch.Generator().manual_seed(4))
    evaluated = probabilities(logits, temperature, ceiling).numpy()
    answered = served(logits.numpy(), temperature, ceiling)
    assert answered == pytest.approx(evaluated, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("calibration", [{}, {"calibration": None}])
def test_a_card_without_calibration_gives_the_plain_softmax(
    tmp_path: Path, calibration: dict[str, Any]
) -> None:
    write_lenet(tmp_path, ["ant", "bee"], **calibration)
    classifier = Classifier.from_artefact(tmp_path)
    assert classifier.temperature == 1.0
    crop = images(1)
    expected = torch.softmax(torch.from_numpy(classifier.logits(crop)).double(), dim=1)
    assert classifier.forward(crop) == pytest.approx(expected.numpy(), rel=1e-12)


@pytest.mark.parametrize("calibration", ["warm", [1.0], {"temperature": "warm"}])
def test_a_calibration_that_is_none_is_refused(tmp_path: Path, calibration: object) -> None:
    write_lenet(tmp_path, ["ant", "bee"], calibration=calibration)
    with pytest.raises(IntegrityError, match="calibration"):
        Classifier.from_artefact(tmp_path)


def test_an_answer_that_is_not_finite_is_none() -> None:
    classifier = fixed(float("nan"), 1.0)
    with pytest.raises(IntegrityError, match="finite"):
        classifier.rank(classifier.forward(images(1))[0], 1)


@pytest.mark.parametrize("architecture", ["lenet", "googlenet"])
def test_grouping_changes_no_answer(architecture: str) -> None:
    torch.manual_seed(0)
    model = zoo.build(architecture, 5).eval()
    side = catalogue.get(architecture).min_size + 17
    generator = torch.Generator().manual_seed(3)
    if architecture == "lenet":
        side = 32
    batch = torch.randn(7, 3, side, side, generator=generator)
    alone = torch.cat([forward(model, image[None]) for image in batch])
    together = forward(model, batch)
    assert alone.shape == (7, 5)
    assert alone.dtype == torch.float32
    assert (alone - together).abs().max() < 1e-5
    assert torch.equal(alone.argmax(1), together.argmax(1))
    assert (probabilities(alone) - probabilities(together)).abs().max() < 1e-5


def test_the_engine_agrees_with_the_bare_network() -> None:
    torch.manual_seed(0)
    model = zoo.build("lenet", 5)
    preprocess = Preprocess.for_architecture("lenet")
    engine = Eager(model, preprocess, catalogue.get("lenet").head)
    assert engine.nbytes == sum(value.nbytes for value in model.state_dict().values())
    crops = np.stack(images(3))
    with torch.no_grad():
        expected = model.eval()(preprocess.normalise(torch.from_numpy(crops)))
    assert engine(crops) == pytest.approx(expected.numpy(), abs=1e-5)
    found = engine.outputs(crops)
    assert np.array_equal(found.logits, engine(crops))
    layer = model.get_submodule(catalogue.get("lenet").head)
    with torch.no_grad():
        told = layer(torch.from_numpy(found.features)).numpy()
    assert told == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_trained_model_answers_with_its_own_classes(tmp_path: Path) -> None:
    write_lenet(tmp_path, ["ant", "bee"], calibration={"temperature": 2.0})
    model, _ = artefact.load(tmp_path)
    classifier = Classifier.from_artefact(tmp_path)
    assert [label.name for label in classifier.labels] == ["ant", "bee"]
    assert classifier.temperature == 2.0
    assert classifier.facts["architecture"] == "lenet"
    assert classifier.facts["classes"] == 2
    crop = images(1)
    with torch.inference_mode():
        logits = model.eval()(classifier.preprocess.normalise(torch.from_numpy(np.stack(crop))))
    expected = torch.softmax(logits.double() / 2.0, dim=1)
    assert classifier.forward(crop) == pytest.approx(expected.numpy(), abs=1e-6)
    with pytest.raises(ImageUndecodable):
        classifier.decode(b"no image")


def test_weights_of_another_network_are_refused(shared: Path) -> None:
    with pytest.raises(WeightsMismatch):
        Classifier.imagenet("alexnet", shared / "weights" / "mobilenet_v2.safetensors")


def test_real_photographs_get_their_real_labels(shared: Path) -> None:
    """The stock preset of the network's authors gets 0.795 and 0.955 on these 200."""
    classifier = Classifier.imagenet(
        "mobilenet_v2", shared / "weights" / "mobilenet_v2.safetensors"
    )
    assert classifier.labels[0] == Label("tench", "n01440764")
    with zipfile.ZipFile(shared / "data" / "imagenet200.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".JPEG"))
        crops = [classifier.decode(archive.read(name)) for name in names]
    true = [int(Path(name).name[:4]) for name in names]
    first = top = 0
    for start in range(0, len(crops), 20):
        rows = classifier.forward(crops[start : start + 20])
        for row, index in zip(rows, true[start : start + 20], strict=True):
            guesses = [entry["index"] for entry in classifier.rank(row, 5)["predictions"]]
            first += guesses[0] == index
            top += index in guesses
    assert first / len(names) >= 0.785
    assert top / len(names) >= 0.945
