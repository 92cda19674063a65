import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from models.data.dataset import StagedDataset
from models.evaluation.calibrate import COLDEST, HOTTEST, LEAST_IMAGES, calibrate
from models.inference.calibration import probabilities
from models.inference.classifier import Classifier
from tests.models.staging import events, train_doubtful


def binary(gap: float, right: int, wrong: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (gap, 0) for all images, of which `right` belong to the first class."""
    logits = torch.tensor([[gap, 0.0]]).repeat(right + wrong, 1)
    return logits, torch.tensor([0] * right + [1] * wrong)


@pytest.mark.parametrize(("gap", "right"), [(6.0, 80), (0.5, 90), (2.0, 60), (40.0, 99)])
def test_the_temperature_of_one_repeated_answer_is_known(gap: float, right: int) -> None:
    """The best confidence is the share that is right, p, so T = gap / ln(p / (1 - p)).

    The share has the variance p (1 - p) / n, and so has ln T that over (p (1 - p) ln(odds))^2.
    """
    found = calibrate(*binary(gap, right, 100 - right))
    share, odds = right / 100, math.log(right / (100 - right))
    closed = math.log(gap / odds)
    variance = 1 / (100 * share * (1 - share) * odds**2)
    counted = variance * (1.96**2 if closed < 0 else 1)
    drawn = closed * max(0.0, 1 - counted / closed**2)
    assert found.temperature == pytest.approx(math.exp(drawn), rel=1e-3)
    assert (found.images, found.fitted, found.reason) == (100, True, None)


def test_answers_become_no_surer_for_want_of_evidence() -> None:
    """Of 60 images 48 are right where 0.75 was said: no more than luck would do."""
    gap = math.log(3)
    assert calibrate(*binary(gap, 48, 12)).temperature == 1.0
    assert calibrate(*binary(gap, 4800, 1200)).temperature < 0.85


@pytest.mark.parametrize(("images", "ceiling"), [(50, 51 / 52), (1000, 1001 / 1002)])
def test_no_confidence_exceeds_what_the_images_support(images: int, ceiling: float) -> None:
    found = calibrate(*binary(40.0, images, 0))
    assert found.ceiling == pytest.approx(ceiling)
    assert found.stated
    logits = torch.tensor([[40.0, 0.0, 0.0], [0.0, 0.1, 0.2]])
    served = found.served(logits)
    assert float(served.max()) == pytest.approx(ceiling)
    assert served.sum(1).tolist() == pytest.approx([1, 1])
    assert (
        served.argsort(dim=1, stable=True).tolist() == logits.argsort(dim=1, stable=True).tolist()
    )


@pytest.mark.parametrize("images", [50, 80, 200])
def test_calibration_rarely_makes_answers_to_other_images_worse(images: int) -> None:
    """Half of the draws are honest, where nothing is to gain; the rest are too sure by 1.5."""
    generator = torch.Generator().manual_seed(images)
    worse, gained = 0, 0.0
    for draw in range(100):
        logits = 2 * torch.randn(images + 2000, 4, generator=generator).double()
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
        logits *= 1.5 if draw % 2 else 1.0
        found = calibrate(logits[:images], labels[:images])
        before = float(cross_entropy(logits[images:], labels[images:]))
        served = found.served(logits[images:])
        after = -float(served.gather(1, labels[images:, None]).log().mean())
        worse += after > 1.02 * before
        gained += before - after
    assert worse <= 5
    assert gained > 0


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 3.0])
def test_it_undoes_a_scaling_of_honest_logits(true: float) -> None:
    """Labels drawn from the softmax itself, logits then multiplied: the factor comes back."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert calibrate(logits * true, labels).temperature == pytest.approx(true, rel=0.03)


def test_no_temperature_of_a_fine_grid_is_better_on_many_images() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(200, 6, generator=generator).double()
    labels = torch.randint(0, 6, (200,), generator=generator)
    labels[:120] = logits[:120].argmax(1)
    logits, labels = logits.repeat(1000, 1), labels.repeat(1000)  # Nothing is left of the error.
    found = cross_entropy(logits / calibrate(logits, labels).temperature, labels)
    grid = [cross_entropy(logits[:200] / (0.1 * 1.01**step), labels[:200]) for step in range(460)]
    assert float(found) <= float(min(grid)) + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_it_is_never_worse_than_leaving_the_logits_alone(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = 2 + seed % 5
    logits = 10 ** (seed % 4 - 1) * torch.randn(60, classes, generator=generator)
    labels = torch.randint(0, classes, (60,), generator=generator)
    found = calibrate(logits, labels)
    assert COLDEST <= found.temperature <= HOTTEST
    scaled = cross_entropy(logits.double() / found.temperature, labels)
    assert scaled <= cross_entropy(logits.double(), labels)


def test_logits_that_mean_nothing_end_at_the_bound() -> None:
    logits, labels = binary(30.0, 40, 60)  # Wrong more often than right: the flatter the better.
    assert calibrate(logits, labels).temperature == HOTTEST


def test_equal_logits_stay_as_they_are() -> None:
    found = calibrate(torch.zeros(60, 3), torch.arange(60) % 3)
    assert (found.temperature, found.fitted) == (1.0, True)


def test_too_few_images_are_named() -> None:
    logits, labels = binary(6.0, LEAST_IMAGES - 9, 9)
    assert calibrate(logits, labels).fitted
    found = calibrate(logits[1:], labels[1:])
    assert (found.temperature, found.images, found.fitted) == (1.0, LEAST_IMAGES - 1, False)
    assert "49 held-out images are too few" in str(found.reason)
    nothing = calibrate(None, torch.empty(0, dtype=torch.int64))
    assert (nothing.temperature, nothing.images, nothing.fitted) == (1.0, 0, False)


def test_images_without_one_error_do_not_make_it_certain() -> None:
    found = calibrate(*binary(2.0, 200, 0))
    assert (found.temperature, found.fitted) == (1.0, False)
    assert "no held-out image is wrong" in str(found.reason)


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_doubtful(tmp_path_factory.mktemp("doubtful"))


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "run" / "result" / name).read_text())


def test_a_run_calibrates_its_model(doubtful: Path) -> None:
    """The network is sure of what a stripe is, yet a fifth of the labels says otherwise."""
    scores, card = read(doubtful, "evaluation.json")["val"], read(doubtful, "card.json")
    calibration = card["calibration"]
    assert scores["accuracy"] == pytest.approx(0.8)
    assert calibration.keys() == {"temperature", "ceiling", "ece_before", "ece_after", "images"}
    assert calibration["images"] == 60
    assert calibration["temperature"] > 1.2
    assert calibration["ece_after"] < calibration["ece_before"]
    assert calibration["ece_after"] == scores["ece"] == card["metrics"]["val"]["ece"]
    before, after = scores["calibration"]["before"], scores["calibration"]["after"]
    assert after["log_loss"] < before["log_loss"]
    assert len(scores["errors"]) == 12
    notes = {event["code"] for event in events(doubtful / "run", "note")}
    assert "not_calibrated" not in notes
    assert "calibrating" in [event["phase"] for event in events(doubtful / "run", "phase")]


def test_the_published_model_answers_as_it_was_evaluated(doubtful: Path) -> None:
    text = (doubtful / "run" / "result" / "predictions.jsonl").read_text()
    rows = {row["sha256"]: row for row in map(json.loads, text.splitlines())}
    classifier = Classifier.from_artefact(doubtful / "run" / "result")
    staged = StagedDataset(doubtful / "data")
    for sample in staged.splits["val"]:
        crop = [classifier.decode(staged.read(sample))]
        answer = classifier.rank(classifier.forward(crop)[0], 1)
        row = rows[sample.sha256]
        assert answer["label"] == row["label"]
        assert answer["confidence"] == pytest.approx(row["confidence"], abs=1e-5)
        plain = probabilities(torch.from_numpy(classifier.logits(crop)))[0]
        assert staged.classes[int(plain.argmax())] == row["label"]
        assert float(plain.max()) > row["confidence"] + 1e-4
    staged.close()
