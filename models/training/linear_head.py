"""A linear head at its optimum, and what heads say about images that they have not seen.

The loss of a linear layer on fixed features is convex: there is one best head for a penalty on its
weights, no epoch to choose and nothing random. `models.training.head_stage` calls this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from models.training import folds

# On the mean squared weight of standardised features. A factor of five apart: a cross-validation
# of some dozen images cannot tell closer neighbours.
PENALTIES = (250.0, 50.0, 10.0, 2.0, 0.4, 0.08, 0.016, 0.003)
USUAL = 10.0  # Where no image can be held out (`bench/few_shot.py --penalty`).
MOST_IMAGES = 4096
MOST_OPERATIONS = 4e11  # Floating-point operations of all fits: some ten seconds on two cores.
ITERATIONS = 100  # Most at one penalty.
USUAL_ITERATIONS = 20
HISTORY = 20
TOLERANCE = 1e-5  # Of the gradient.
NO_GROUP = -1  # Of images that took no part.


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
        penalty: The given one, or the largest whose log loss the images cannot tell from the
            smallest.
        reason: Why that one, in words; empty where it was given.
        groups: A number for each image that there is, (n,), the same for those that are nearly the
            same; NO_GROUP for images that no head has seen either.
    """

    images: Tensor
    logits: Tensor
    penalty: float
    reason: str
    groups: Tensor


def fit(problem: Problem, penalty: float, between: Callable[[], None]) -> Layer:
    """Return the one best head at a penalty of the list; `between` two looks at the loss."""
    features, span = _in_span(problem.features)
    seen = torch.ones(len(features), 1, dtype=torch.float64)
    weight, bias = _path(problem, features, seen, _down_to(penalty), between)[-1]
    return Layer((weight if span is None else span @ weight).T, bias)


def cross_validate(
    problem: Problem, seed: int, between: Callable[[], None], penalty: float | None = None
) -> Answers | str:
    """Fit heads without each fold; return what they answer, or why there are no answers.

    Args:
        problem: Of its images at most 4096 take part.
        seed: Chooses these.
        between: Called before each look at the loss; what it raises ends the search.
        penalty: At which they answer; None chooses it.
    """
    images = folds.chosen(len(problem.labels), MOST_IMAGES, seed)
    groups = torch.full_like(problem.labels, NO_GROUP)
    labels = problem.labels[images]
    problem = replace(problem, features=problem.features[images], labels=labels)
    penalties = _down_to(PENALTIES[-1] if penalty is None else penalty)
    passes = USUAL_ITERATIONS * len(penalties) * folds.count(len(labels))
    if problem.operations * passes > MOST_OPERATIONS:
        return "so many classes would take too long to cross-validate"
    dealt = folds.deal(problem.features, labels)
    if isinstance(dealt, str):
        return dealt
    groups[images] = dealt.groups
    asked = (dealt.folds != folds.ALWAYS_SEEN).nonzero()[:, 0]
    held_out, column = torch.unique(dealt.folds[asked], return_inverse=True)
    features, _ = _in_span(problem.features)
    seen = (dealt.folds[:, None] != held_out).double()
    rows = torch.arange(len(asked))
    logits = torch.stack(
        [
            (features[asked] @ weight + bias).reshape(len(asked), len(held_out), -1)[rows, column]
            for weight, bias in _path(problem, features, seen, penalties, between)
        ]
    )
    best, reason = (-1, "") if penalty is not None else _best(logits, labels[asked])
    return Answers(images[asked], logits[best].float(), penalties[best], reason, groups)


def _best(logits: Tensor, labels: Tensor) -> tuple[int, str]:
    """Return which of the penalties is the best one, by logits (penalties, n, classes), and why."""
    losses = torch.stack(
        [functional.cross_entropy(one, labels, reduction="none") for one in logits]
    )
    means = losses.mean(1)
    least = int(means.argmin())
    # The rule of one standard error (Breiman et al., Classification and Regression Trees, 1984).
    enough = means[least] + losses[least].std() / len(labels) ** 0.5
    table = ", ".join(f"{a:g}: {b:.4f}" for a, b in zip(PENALTIES, means.tolist(), strict=True))
    words = (
        f"largest penalty within a standard error of the smallest log loss of {len(labels)} images"
        " as heads answered that had not seen them"
    )
    return int((means <= enough).nonzero()[0]), f"{words} ({table})"


def _down_to(penalty: float) -> Sequence[float]:
    return PENALTIES[: PENALTIES.index(penalty) + 1]


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
    problem: Problem,
    features: Tensor,
    seen: Tensor,
    penalties: Sequence[float],
    between: Callable[[], None],
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
            between()
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
