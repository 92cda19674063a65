import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from models.training import folds, linear_head
from models.training.folds import Dealt
from models.training.linear_head import Answers, Problem

PENALTY = linear_head.PENALTIES[2]


def idle() -> None:
    """Nothing is to be done between two looks at a loss."""


def problem(images: int, width: int, classes: int = 3, smoothing: float = 0.0) -> Problem:
    """Return classes that differ a little, in noise."""
    generator = torch.Generator().manual_seed(images)
    labels = torch.arange(images) % classes
    noise = torch.randn(images, width, generator=generator)
    values = noise + functional.one_hot(labels, width)
    return Problem(values, labels, torch.zeros(classes), smoothing)


def slopes(asked: Problem, weight: Tensor, bias: Tensor, penalty: float) -> Tensor:
    """Return the largest slope of the loss as it is written in the textbooks."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    logits = asked.features.double() @ weight.T + bias + asked.shift
    loss = functional.cross_entropy(logits, asked.labels, label_smoothing=asked.smoothing)
    loss = loss + penalty / 2 * weight.square().sum() / asked.features.shape[1]
    parts = torch.autograd.grad(loss, (weight, bias))
    return torch.cat([part.abs().reshape(-1) for part in parts]).max()


@pytest.mark.parametrize(("images", "width"), [(90, 12), (30, 200)])
def test_the_head_is_that_of_logistic_regression(images: int, width: int) -> None:
    """scikit-learn sums over images and has no penalty on the bias either."""
    asked = problem(images, width)
    found = linear_head.fit(asked, PENALTY, idle)
    other = LogisticRegression(C=width / PENALTY / images, tol=1e-8, max_iter=10_000)
    other.fit(asked.features.double().numpy(), asked.labels.numpy())
    expected = other.predict_proba(asked.features.double().numpy())
    mine = found(asked.features).softmax(1).double()
    torch.testing.assert_close(mine, torch.from_numpy(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("penalty", linear_head.PENALTIES)
def test_no_direction_leads_to_a_smaller_loss(penalty: float) -> None:
    asked = problem(30, 200, smoothing=0.1)
    asked = Problem(asked.features, asked.labels, torch.tensor([0.0, -1.0, -2.0]), 0.1)
    found = linear_head.fit(asked, penalty, idle)
    assert float(slopes(asked, found.weight, found.bias, penalty)) < 1e-4


def test_heads_side_by_side_answer_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = problem(60, 100)
    dealt = torch.arange(60) // 3 % 4
    monkeypatch.setattr(folds, "deal", lambda *_: Dealt(dealt, torch.arange(60)))
    found = linear_head.cross_validate(asked, 1, idle)
    assert isinstance(found, Answers)
    for fold in range(4):
        out = dealt == fold
        some = Problem(asked.features[~out], asked.labels[~out], asked.shift)
        alone = linear_head.fit(some, found.penalty, idle)(asked.features[out])
        torch.testing.assert_close(found.logits[out], alone, rtol=0, atol=0.02)


def test_noise_asks_for_the_largest_penalty() -> None:
    noise = torch.randn(90, 200, generator=torch.Generator().manual_seed(0))
    found = linear_head.cross_validate(
        Problem(noise, torch.arange(90) % 3, torch.zeros(3)), 1, idle
    )
    assert isinstance(found, Answers)
    assert found.penalty == max(linear_head.PENALTIES)
    assert f"{found.penalty:g}: " in found.reason


def test_clear_classes_ask_for_little() -> None:
    asked = problem(90, 200)
    clear = asked.features + 3 * functional.one_hot(asked.labels, 20).repeat(1, 10)
    found = linear_head.cross_validate(Problem(clear, asked.labels, asked.shift), 1, idle)
    assert isinstance(found, Answers)
    assert found.penalty < 1


@pytest.mark.parametrize(
    ("labels", "classes", "word"),
    [(torch.arange(10), 11, "hardly any"), (torch.arange(4000) % 2000, 5000, "too long")],
)
def test_where_nothing_can_be_compared_there_are_no_answers(
    labels: Tensor, classes: int, word: str
) -> None:
    noise = torch.randn(len(labels), 64, generator=torch.Generator().manual_seed(0))
    found = linear_head.cross_validate(Problem(noise, labels, torch.zeros(classes)), 1, idle)
    assert word in str(found)


def test_a_search_can_be_left_between_two_looks_at_the_loss() -> None:
    """Whoever stops a run, or waits for a sign of life, is not kept waiting for the optimum."""
    looks = []

    def leave() -> None:
        looks.append(1)
        if len(looks) % 3 == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        linear_head.fit(problem(30, 20), PENALTY, leave)
    with pytest.raises(KeyboardInterrupt):
        linear_head.cross_validate(problem(30, 20), 1, leave)
    assert len(looks) == 6


def test_answers_at_a_given_penalty_are_those_that_chose_it() -> None:
    """They are computed once more where a head is published, with the same bits."""
    asked = problem(90, 200)
    chosen = linear_head.cross_validate(asked, 1, idle)
    assert isinstance(chosen, Answers)
    again = linear_head.cross_validate(asked, 1, idle, chosen.penalty)
    assert isinstance(again, Answers)
    assert torch.equal(again.logits, chosen.logits)
    assert (again.penalty, again.reason) == (chosen.penalty, "")
