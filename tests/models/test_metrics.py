import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from models import metrics


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (300,))  # The fifth class has no image.
    logits = torch.randn(300, 5) + 2 * torch.nn.functional.one_hot(labels, 5)
    return torch.softmax(logits.double(), 1), labels


def test_metrics_agree_with_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    probabilities, labels = scored
    names = ["a", "b", "c", "d", "e"]
    found = metrics.full(probabilities, labels, names)
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
    assert metrics.full(probabilities, labels, names)["top_k"] == {"k": 5, "accuracy": 1.0}
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
    full = metrics.full(torch.softmax(logits.double(), 1), labels, list("abcd"))
    assert quick["macro_f1"] == pytest.approx(full["macro"]["f1"])
    assert quick["accuracy"] == full["accuracy"]
    assert quick["loss"] == pytest.approx(full["log_loss"], rel=1e-5)


def test_calibration_error_of_known_answers() -> None:
    confidence = torch.tensor([0.9] * 10 + [0.6] * 10)
    correct = torch.tensor([True] * 8 + [False] * 2 + [True] * 6 + [False] * 4)
    assert metrics.calibration_error(confidence, correct) == pytest.approx(0.05, abs=1e-6)
    assert metrics.calibration_error(torch.ones(4), torch.ones(4)) == 0


def test_many_classes_get_a_sparse_matrix() -> None:
    classes = [str(number) for number in range(1000)]
    probabilities = torch.eye(1000, dtype=torch.float64)[:3]
    found = metrics.full(probabilities, torch.tensor([0, 1, 5]), classes)["confusion"]
    assert found["matrix"] is None
    assert found["cells"] == [[0, 0, 1], [1, 1, 1], [5, 2, 1]]
