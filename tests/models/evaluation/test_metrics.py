import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from models.evaluation import metrics


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (300,))  # The fifth class has no image.
    return torch.randn(300, 5) + 2 * torch.nn.functional.one_hot(labels, 5), labels


def test_metrics_agree_with_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = scored
    names = ["a", "b", "c", "d", "e"]
    found = metrics.full(logits, labels, names)
    probabilities = torch.softmax(logits.double(), 1)
    predicted = probabilities.argmax(1)
    for average in ("macro", "weighted"):
        # The classes with images: what a class without any cannot have is left out.
        precision, recall, f1, _ = reference.precision_recall_fscore_support(
            labels, predicted, labels=range(4), average=average, zero_division=0
        )
        expected = {"precision": precision, "recall": recall, "f1": f1}
        assert found[average] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found["log_loss"] == pytest.approx(
        reference.log_loss(labels, probabilities, labels=range(5))
    )
    matrix = reference.confusion_matrix(labels, predicted, labels=range(5))
    assert (np.array(found["confusion"]["matrix"]) == matrix).all()
    top3 = reference.top_k_accuracy_score(labels, probabilities, k=3, labels=range(5))
    assert found["top_k"] == {"k": 5, "accuracy": 1.0}
    top = probabilities.topk(3, 1).indices
    assert (top == labels[:, None]).any(1).double().mean() == pytest.approx(top3)


def test_a_class_without_images_has_no_scores(
    scored: tuple[torch.Tensor, torch.Tensor],
) -> None:
    found = metrics.full(*scored, ["a", "b", "c", "d", "e"])
    assert found["per_class"][4] == {
        "class": "e",
        "support": 0,
        "precision": None,
        "recall": None,
        "f1": None,
    }


def test_quick_scores_agree_with_the_full_ones() -> None:
    torch.manual_seed(1)
    labels, logits = torch.randint(0, 3, (50,)), torch.randn(50, 4)
    quick = metrics.quick(logits, labels)
    full = metrics.full(logits, labels, list("abcd"))
    assert quick["macro_f1"] == pytest.approx(full["macro"]["f1"])
    assert quick["accuracy"] == full["accuracy"]
    assert quick["loss"] == pytest.approx(full["log_loss"], rel=1e-5)


def test_bins_and_calibration_error_of_known_answers() -> None:
    """15 bins: 0.9 lies in [13/15, 14/15), 0.61 in [9/15, 10/15), 1 in the last."""
    confidence = torch.tensor([0.9] * 10 + [0.61] * 10 + [1.0] * 5)
    correct = torch.tensor([True] * 8 + [False] * 2 + [True] * 6 + [False] * 4 + [True] * 5)
    bins = metrics.reliability(confidence, correct)
    assert len(bins) == 15
    assert [one["images"] for one in bins] == [0] * 9 + [10, 0, 0, 0, 10, 5]
    assert bins[13] == {
        "low": pytest.approx(13 / 15),
        "high": pytest.approx(14 / 15),
        "images": 10,
        "confidence": pytest.approx(0.9),
        "accuracy": pytest.approx(0.8),
    }
    assert (bins[14]["confidence"], bins[14]["accuracy"]) == (1.0, 1.0)
    assert (bins[0]["confidence"], bins[0]["accuracy"]) == (None, None)
    # (10 * |0.9 - 0.8| + 10 * |0.61 - 0.6| + 5 * |1 - 1|) / 25
    assert metrics.calibration_error(bins) == pytest.approx(1.1 / 25, abs=1e-6)


def test_errors_of_opposite_sign_in_two_bins_do_not_cancel() -> None:
    confidence = torch.tensor([0.9] * 10 + [0.7] * 10)
    correct = torch.tensor([True] * 7 + [False] * 3 + [True] * 9 + [False])
    bins = metrics.reliability(confidence, correct)
    assert metrics.calibration_error(bins) == pytest.approx(0.2, abs=1e-6)


def test_a_temperature_scores_what_is_served_and_keeps_the_plain_softmax_beside_it() -> None:
    """Logits (ln 9, 0) say 0.9; at temperature 2 they say 3 / 4. Three of four are right."""
    logits = torch.tensor([[math.log(9.0), 0.0]] * 4)
    labels = torch.tensor([0, 0, 0, 1])
    found = metrics.full(logits, labels, ["a", "b"], temperature=2.0)
    before, after = found["calibration"]["before"], found["calibration"]["after"]
    assert before["ece"] == pytest.approx(0.9 - 0.75, abs=1e-6)
    assert after["ece"] == pytest.approx(0, abs=1e-6)
    assert before["log_loss"] == pytest.approx(-(3 * math.log(0.9) + math.log(0.1)) / 4, abs=1e-6)
    assert after["log_loss"] == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4, abs=1e-6)
    assert (found["ece"], found["log_loss"]) == (after["ece"], after["log_loss"])
    assert found["calibration"]["temperature"] == 2.0


def test_the_loss_of_a_hopeless_answer_is_exact() -> None:
    """The true class has a probability that no float64 can hold."""
    found = metrics.losses(torch.tensor([[0.0, 900.0]]), torch.tensor([0]), 1.0)
    assert found.tolist() == [900.0]


def test_many_classes_get_a_sparse_matrix() -> None:
    classes = [str(number) for number in range(1000)]
    logits = 30 * torch.eye(1000)[:3]
    found = metrics.full(logits, torch.tensor([0, 1, 5]), classes)["confusion"]
    assert found["matrix"] is None
    assert found["cells"] == [[0, 0, 1], [1, 1, 1], [5, 2, 1]]
