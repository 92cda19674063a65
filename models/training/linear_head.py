"""A linear head at its optimum, and what heads say about images that they have not seen.

The loss of a linear layer on fixed features is convex: there is one best head for a penalty on its
weights, no epoch to choose and nothing random. `models.training.head_stage` calls this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from models.training import folds

# On the mean squared weight of standardised features. A factor of five apart: a cross-validation
# of some dozen images cannot tell closer neighbours.
PENALTIES = (250.0, 50.0, 10.0, 2.0, 0.4, 0.08, 0.016, 0.003)
USUAL = 0.08
MOST_IMAGES = 4096
MOST_OPERATIONS = 4e11  # Floating-point operations of all fits: some ten seconds on two cores.
ITERATIONS = 100  # Most at one penalty.
USUAL_ITERATIONS = 20
HISTORY = 20
TOLERANCE = 1e-5  # Of the gradient.


@dataclass(frozen=True)
class Problem:
    """Standardised features (n, d) with class numbers (n,), and the loss on them.

    `shift` (classes,) is added to the logits while a head is fitted; `smoothing` is the
    probability that targets spread over all classes.
    """

    features: Tensor
    labels: Tensor
    shift: Tensor
    smoothing: float = 0.0

    @property
    def operations(self) -> float:
        """Floating-point operations of one look at the loss and its slope."""
        rows, width = self.features.shape
        return 4.0 * rows * min(rows, width) * len(self.shift)


@dataclass(frozen=True)
class Layer:
    """Weights (classes, d) and bias (classes,) for standardised features, float64."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return the logits (n, classes), float32."""
        return (features.double() @ self.weight.T + self.bias).float()


@dataclass(frozen=True)
class Answers:
    """What heads that had not seen an image said about it, and the penalty that these choose.

    Attributes:
        images: Numbers of the images, (m,), in order.
        logits: Float32 (m, classes).
        penalty: The largest whose log loss the images cannot tell from the smallest.
        reason: Why, in words.
    """

    images: Tensor
    logits: Tensor
    penalty: float
    reason: str


def fit(problem: Problem, penalty: float) -> Layer:
    """Return the one best head at a penalty of the list."""
    features, span = _in_span(problem.features)
    seen = torch.ones(len(features), 1, dtype=torch.float64)
    penalties = PENALTIES[: PENALTIES.index(penalty) + 1]
    weight, bias = _path(problem, features, seen, penalties)[-1]
    return Layer((weight if span is None else span @ weight).T, bias)


def cross_validate(problem: Problem, seed: int) -> Answers | str:
    """Fit heads without each fold at each penalty; return their answers, or why there are none.

    Of many images 4096 take part, chosen by `seed`.
    """
    images = folds.chosen(len(problem.labels), MOST_IMAGES, seed)
    labels = problem.labels[images]
    problem = replace(problem, features=problem.features[images], labels=labels)
    dealt = folds.deal(problem.features, labels)
    if isinstance(dealt, str):
        return dealt
    held_out = torch.unique(dealt)
    passes = USUAL_ITERATIONS * len(PENALTIES) * len(held_out)
    if problem.operations * passes > MOST_OPERATIONS:
        return "so many classes would take too long to cross-validate"
    features, _ = _in_span(problem.features)
    seen = (dealt[:, None] != held_out).double()
    column, rows = torch.searchsorted(held_out, dealt), torch.arange(len(labels))
    logits = torch.stack(
        [
            (features @ weight + bias).reshape(len(labels), len(held_out), -1)[rows, column]
            for weight, bias in _path(problem, features, seen, PENALTIES)
        ]
    )
    losses = torch.stack(
        [functional.cross_entropy(one, labels, reduction="none") for one in logits]
    )
    means = losses.mean(1)
    least = int(means.argmin())
    # The rule of one standard error (Breiman et al., Classification and Regression Trees, 1984).
    enough = means[least] + losses[least].std() / len(labels) ** 0.5
    best = int((means <= enough).nonzero()[0])
    table = ", ".join(f"{a:g}: {b:.4f}" for a, b in zip(PENALTIES, means.tolist(), strict=True))
    words = (
        f"largest penalty within a standard error of the smallest log loss of {len(labels)} images"
        " as heads answered that had not seen them"
    )
    return Answers(images, logits[best].float(), PENALTIES[best], f"{words} ({table})")


def _in_span(features: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return features in float64 and, where that is smaller, in the span of the images.

    The best weights are a combination of the images, so nothing is lost. The second value (d, n)
    leads back.
    """
    whole = features.double()
    if whole.shape[0] >= whole.shape[1]:
        return whole, None
    span = torch.linalg.qr(whole.T).Q
    return whole @ span, span


def _path(
    problem: Problem, features: Tensor, seen: Tensor, penalties: Sequence[float]
) -> list[tuple[Tensor, Tensor]]:
    """Return weights (d, heads * classes) and biases of the best heads at each penalty.

    The heads learn side by side, each from the images that it has `seen` (n, heads); those at a
    penalty start from those at the one before, which is larger.
    """
    heads, classes = seen.shape[1], len(problem.shift)
    shape = (len(features), heads, classes)
    weight = torch.zeros(features.shape[1], heads * classes).double().requires_grad_()
    bias = torch.zeros(heads * classes).double().requires_grad_()
    counted, targets = seen / seen.sum(0), problem.labels[:, None].expand(shape[:2])
    found = []
    for penalty in penalties:
        search = torch.optim.LBFGS(
            [weight, bias],
            max_iter=ITERATIONS,
            history_size=HISTORY,
            tolerance_grad=TOLERANCE,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )
        factor = penalty / 2 / problem.features.shape[1]

        def loss(search: torch.optim.LBFGS = search, factor: float = factor) -> Tensor:
            search.zero_grad()
            logits = (features @ weight + bias).reshape(shape) + problem.shift
            losses = functional.cross_entropy(
                logits.movedim(-1, 1),
                targets,
                reduction="none",
                label_smoothing=problem.smoothing,
            )
            value = (losses * counted).sum() + factor * weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call] # torch says no type.
            return value

        search.step(loss)  # type: ignore[no-untyped-call] # As above.
        found.append((weight.detach().clone(), bias.detach().clone()))
    return found
