import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest
from sklearn.metrics import f1_score

from models.evaluation.intervals import intervals, standard_error


@pytest.mark.parametrize(
    ("images", "right"), [(100, 80), (400, 390), (24, 23), (24, 24), (7, 0), (1, 1)]
)
def test_accuracy_has_the_interval_of_wilson(images: int, right: int) -> None:
    labels = torch.zeros(images, dtype=torch.int64)
    predicted = (torch.arange(images) >= right).long()
    found = intervals(predicted, labels, 2, seed=1, resamples=10)["accuracy"]
    wanted = binomtest(right, images).proportion_ci(method="wilson")
    assert found["low"] == pytest.approx(wanted.low, abs=1e-12)
    assert found["high"] == pytest.approx(wanted.high, abs=1e-12)


@pytest.mark.parametrize("true", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("images", [12, 24, 50, 200])
def test_the_interval_holds_the_truth_as_often_as_it_says(images: int, true: float) -> None:
    """Summed over everything that may be drawn; resampling held it in 0.46 of draws (12, 0.95)."""
    held = 0.0
    for right in range(images + 1):
        labels = torch.zeros(images, dtype=torch.int64)
        predicted = (torch.arange(images) >= right).long()
        found = intervals(predicted, labels, 2, seed=1, resamples=2)["accuracy"]
        if found["low"] <= true <= found["high"]:
            held += float(binom.pmf(right, images, true))
    assert held >= 0.92


def test_no_share_is_certain() -> None:
    assert standard_error(1.0, 20) == pytest.approx(0.0445, abs=1e-4)
    assert standard_error(0.8, 10_000) == pytest.approx(0.004, rel=1e-2)


def test_macro_f1_agrees_with_drawing_images_and_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    predicted = np.where(rng.random(150) < 0.7, labels, rng.integers(0, 3, 150))
    found = intervals(torch.tensor(predicted), torch.tensor(labels), 4, seed=1)["macro_f1"]
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
    first, again, other = (intervals(predicted, labels, 3, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first["macro_f1"] != other["macro_f1"]
    assert (first["level"], first["resamples"], first["seed"]) == (0.95, 1000, 5)


def test_where_all_are_right_the_unseen_images_may_not_be() -> None:
    labels = torch.zeros(9, dtype=torch.int64)
    right, wrong = (intervals(labels + more, labels, 2, seed=0) for more in (0, 1))
    assert (
        right["macro_f1"]
        == right["accuracy"]
        == {"low": pytest.approx(0.7009, abs=1e-4), "high": 1.0}
    )
    assert (
        wrong["macro_f1"]
        == wrong["accuracy"]
        == {"low": 0.0, "high": pytest.approx(0.2991, abs=1e-4)}
    )


def test_a_thousand_classes_are_quick_and_in_range() -> None:
    labels = torch.arange(3000) % 1000
    predicted = labels.clone()
    predicted[::3] = 7
    found = intervals(predicted, labels, 1000, seed=0, resamples=100)
    assert 0 < found["accuracy"]["low"] < 0.667 < found["accuracy"]["high"] < 1
    assert 0 < found["macro_f1"]["low"] < found["macro_f1"]["high"] < 1
