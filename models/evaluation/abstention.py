"""Which answers are not relied on, how that is fitted, and what it costs and gains."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models.evaluation.intervals import wilson
from models.inference.rejection import Rejection, nearest, unit
from models.planning.rejection import LEAST_IMAGES, NO_REFERENCES, TOO_FEW
from topwork.kinds import AbstainReason

MANY, FEW = 5, 1  # Neighbours; measured on images of CIFAR-10 (`bench/unknown.py --develop`).
LEAST_FOR_MANY = 16  # Known images a class from which on several neighbours tell more than one.
MOST_VALUES = 1 << 22  # Of the features that are kept: 16 MB.
SHARES = (1.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True)
class Abstention:
    """By what a model abstains, and how it judges held-out images.

    Attributes:
        rejection: None where it relies on every answer.
        reason: Why it does.
        similarities: Of the images of each held-out split to known ones, float64 (n,).
        unseen: The same of splits of which known images are a part: each to the others alone.
    """

    rejection: Rejection | None = None
    reason: str | None = NO_REFERENCES
    similarities: Mapping[str, Tensor] = field(default_factory=dict)
    unseen: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rejection: Rejection | str,
        features: Mapping[str, Tensor],
        unseen: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """Return how a rejection, or the reason for none, judges splits by features (n, d)."""
        if isinstance(rejection, str):
            return cls(reason=rejection)
        similarities = {
            split: torch.from_numpy(rejection.similarity(some.numpy()))
            for split, some in features.items()
        }
        return cls(rejection, None, similarities, unseen or {})

    def stated(self) -> dict[str, Any]:
        """Return the card's `rejection`."""
        if self.rejection is None:
            return {"reason": self.reason}
        return {
            "reason": None,
            **asdict(self.rejection.usual),
            "images": len(self.rejection.similarities),
            "neighbours": self.rejection.neighbours,
            "references": len(self.rejection.references),
        }

    def reasons(
        self, split: str, served: Tensor, *, unseen: bool = False
    ) -> list[AbstainReason | None]:
        """Return why each answer of a split is not relied on, by its confidences (n, classes).

        They are the reasons that the service gives, or, `unseen`, those that it would give had it
        not known the images.
        """
        if self.rejection is None:
            return [None] * len(served)
        usual = self.rejection.usual
        known = {**self.similarities, **self.unseen} if unseen else self.similarities
        pairs = zip(known[split].tolist(), served.amax(1).tolist(), strict=True)
        return [usual.reason(*pair) for pair in pairs]

    def scores(self, split: str, served: Tensor, labels: Tensor) -> dict[str, Any]:
        """Return what the evaluation of a split says about abstention."""
        confidence, guesses = served.max(1)
        reasons = self.reasons(split, served, unseen=True)
        return scores(reasons, confidence, guesses == labels, self.reason)


def scores(
    reasons: list[AbstainReason | None],
    confidence: Tensor,
    right: Tensor,
    unavailable: str | None,
) -> dict[str, Any]:
    """Return shares of accepted answers and of right ones among them, from n >= 1 answers.

    `by_confidence` is the risk-coverage curve of El-Yaniv and Wiener (Journal of Machine Learning
    Research 11, 2010), which needs no threshold.
    """
    accepted = torch.tensor([reason is None for reason in reasons])
    kept = int(accepted.sum())
    hits = int(right[accepted].sum())
    return {
        "reason": unavailable,
        "coverage": kept / len(reasons),
        "coverage_interval": wilson(kept, len(reasons)),
        "accuracy": hits / kept if kept else None,
        "accuracy_interval": wilson(hits, kept) if kept else None,
        "unknown": reasons.count(AbstainReason.UNKNOWN),
        "unsure": reasons.count(AbstainReason.UNSURE),
        "by_confidence": by_confidence(confidence, right),
    }


def by_confidence(confidence: Tensor, right: Tensor) -> list[dict[str, float]]:
    """Return the accuracy of the surest answers, at shares of 1 down to a half of all n >= 1."""
    order = confidence.sort(descending=True, stable=True).indices
    curve = []
    for share in SHARES:
        surest = order[: max(1, round(share * len(order)))]
        curve.append(
            {
                "coverage": len(surest) / len(order),
                "confidence": float(confidence[surest[-1]]),
                "accuracy": float(right[surest].double().mean()),
            }
        )
    return curve


class Seen(NamedTuple):
    """Images that did not train what answered for them.

    `features` are (n, d), `confidences` (n,); images of the same number of `groups` (n,), which
    counts with the known images, are nearly the same. No known image has a negative number.
    """

    features: Tensor
    confidences: Tensor
    groups: Tensor | None = None


def fit(
    features: Tensor, labels: Tensor, seen: Sequence[Seen], groups: Tensor | None = None
) -> Rejection | str:
    """Return by what a model abstains, or why it cannot.

    Args:
        features: Of known images, those that trained, (m, d).
        labels: Their class numbers (m,).
        seen: By which the thresholds are fixed; an image's like among the known ones do not count.
        groups: Numbers of the known images' groups (m,).
    """
    images = sum(len(some.features) for some in seen)
    if images < LEAST_IMAGES:
        return TOO_FEW.format(images, LEAST_IMAGES)
    chosen = spread_out(labels, MOST_VALUES // features.shape[1])
    references, sizes = unit(features[chosen].numpy()), torch.bincount(labels[chosen])
    typical = int(sizes[sizes > 0].median())
    neighbours = min(MANY if typical >= LEAST_FOR_MANY else FEW, len(references))
    known = None if groups is None else groups[chosen].numpy()
    similarities = [
        nearest(
            some.features.numpy(),
            references,
            neighbours,
            None if some.groups is None or known is None else (some.groups.numpy(), known),
        )
        for some in seen
    ]
    confidences = [some.confidences.double().numpy() for some in seen]
    return Rejection(
        references, neighbours, np.concatenate(similarities), np.concatenate(confidences)
    )


def spread_out(labels: Tensor, most: int) -> Tensor:
    """Return the numbers of at most so many images, of each class as many as of the others."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    turns = torch.empty(len(labels), dtype=torch.int64)
    for label in torch.unique(labels):
        own = order[labels[order] == label]
        turns[own] = torch.arange(len(own))
    return turns.argsort(stable=True)[:most].sort().values
