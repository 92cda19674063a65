import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.metrics import f1_score

from models.evaluation.intervals import bootstrap


@pytest.mark.parametrize(("images", "right"), [(100, 80), (400, 390)])
def test_accuracy_has_the_quantiles_of_the_binomial_distribution(images: int, right: int) -> None:
    labels = torch.zeros(images, dtype=torch.int64)
    predicted = (torch.arange(images) >= right).long()
    found = bootstrap(predicted, labels, 2, seed=1, resamples=4000)["accuracy"]
    low, high = binom.ppf([0.025, 0.975], images, right / images) / images
    assert found["low"] == pytest.approx(low, abs=1.01 / images)
    assert found["high"] == pytest.approx(high, abs=1.01 / images)


def test_macro_f1_agrees_with_drawing_images_and_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    predicted = np.where(rng.random(150) < 0.7, labels, rng.integers(0, 3, 150))
    found = bootstrap(torch.tensor(predicted), torch.tensor(labels), 4, seed=1)["macro_f1"]
    naive = []
    for _ in range(400):
        drawn = rng.integers(0, 150, 150)
        naive.append(f1_score(labels[drawn], predicted[drawn], average="macro"))
    low, high = np.quantile(naive, [0.025, 0.975])
    assert found["low"] == pytest.approx(low, abs=0.02)
    assert found["high"] == pytest.approx(high, abs=0.02)
    assert found["low"] < f1_score(labels, predicted, average="macro") < found["high"]


def test_the_seed_decides_and_is_stated() -> None:
    labels = torch.arange(60) % 3
    predicted = labels.clone()
    predicted[:10] = 0
    first, again, other = (bootstrap(predicted, labels, 3, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first["macro_f1"] != other["macro_f1"]
    assert (first["level"], first["resamples"], first["seed"]) == (0.95, 1000, 5)


def test_one_kind_of_answer_gives_no_interval() -> None:
    labels = torch.zeros(9, dtype=torch.int64)
    for predicted in (labels, labels + 1):
        found = bootstrap(predicted, labels, 2, seed=0)
        assert (found["accuracy"], found["macro_f1"]) == (None, None)


def test_a_thousand_classes_are_quick_and_in_range() -> None:
    labels = torch.arange(3000) % 1000
    predicted = labels.clone()
    predicted[::3] = 7
    found = bootstrap(predicted, labels, 1000, seed=0, resamples=100)
    assert 0 < found["accuracy"]["low"] < 0.667 < found["accuracy"]["high"] < 1
    assert 0 < found["macro_f1"]["low"] < found["macro_f1"]["high"] < 1
