"""When an answer is not relied on: the image is unlike all known ones, or its class is unsure.

These are two questions. Whether an image is like those of training is told by its features: the
cosine to its nearest neighbours among them (Sun et al., "Out-of-Distribution Detection with Deep
Nearest Neighbors", arXiv:2204.06507). Which of the known classes it has is told by the confidence.
Both thresholds follow from what was said about images that did not train it, so that a stated share
of such images is accepted. The trainer makes it, the classifier asks it; it needs no torch.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.planning.rejection import COVERAGE, accepted_images
from topwork.errors import IntegrityError, RejectionUnavailable
from topwork.kinds import AbstainReason

Floats32: TypeAlias = NDArray[np.float32]
Floats64: TypeAlias = NDArray[np.float64]
LEVEL = 0.95  # How often the interval of a coverage holds the true one.
STEPS = 40  # Halvings of 0..1 on the way to a quantile.
CHUNK = 1 << 22  # Cosines, or values of the images, that are held at once.
ROUNDING = 1e-6  # By which a score may be another one in another batch.


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What an accepted answer reaches; `coverage` of known images do, within `low` and `high`."""

    coverage: float
    low: float
    high: float
    similarity: float
    confidence: float

    def reason(self, similarity: float, confidence: float) -> AbstainReason | None:
        """Return why an answer is not relied on; None if it is."""
        if similarity < self.similarity:
            return AbstainReason.UNKNOWN
        return AbstainReason.UNSURE if confidence < self.confidence else None

    def nearly(self, similarity: float, confidence: float, distance: float) -> bool:
        """Tell whether a score is so near to its threshold that rounding may decide."""
        gaps = abs(similarity - self.similarity), abs(confidence - self.confidence)
        return min(gaps) < distance


@dataclass(frozen=True)
class Rejection:
    """Known images, and what was said about images that trained nothing of what judged them.

    Attributes:
        references: Features of length 1 of training images, float32 (m, d).
        neighbours: How many of them an image is compared with.
        similarities: Of the other images to these, float64 (n,).
        confidences: The confidence that each of them got, float64 (n,).
    """

    references: Floats32
    neighbours: int
    similarities: Floats64
    confidences: Floats64

    def __post_init__(self) -> None:
        """Refuse what a file from elsewhere could hold.

        Raises:
            IntegrityError: The numbers do not fit together.
        """
        known, seen = self.references, self.similarities
        fits = known.ndim == 2 and seen.shape == self.confidences.shape == (len(seen),)  # noqa: PLR2004 - rows and columns.
        if not fits or not 0 < self.neighbours <= len(known) or not len(seen):
            raise IntegrityError("The model's reference images do not fit together.")
        if not all(bool(np.isfinite(values).all()) for values in self.arrays().values()):
            raise IntegrityError("The model's reference images hold values that are not finite.")

    @property
    def nbytes(self) -> int:
        """Memory of all its numbers."""
        return sum(values.nbytes for values in self.arrays().values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what a file keeps of it."""
        return {
            "references": self.references,
            "similarities": self.similarities,
            "confidences": self.confidences,
        }

    def similarity(self, features: Floats32) -> Floats64:
        """Return the similarity of images to known ones, float64 (n,) in -1..1.

        It is the mean cosine to their nearest neighbours. `features` are (n, d).
        """
        return nearest(features, self.references, self.neighbours)

    @cached_property
    def usual(self) -> Thresholds:
        """The thresholds of requests that ask for no coverage of their own."""
        return self.thresholds(COVERAGE)

    def thresholds(self, coverage: float) -> Thresholds:
        """Return the thresholds that accept this share of images of known classes.

        Both reject the same number of images, as far as these are others; so neither question
        takes the whole of what may be lost.

        Raises:
            RejectionUnavailable: There are too few images to promise so much.
        """
        images = len(self.similarities)
        wanted = accepted_images(images, coverage)
        if wanted > images:
            raise RejectionUnavailable(f"{images} images cannot promise a share of {coverage:g}.")
        scores = self.similarities, self.confidences
        sides = [np.sort(values) for values in scores]
        # A threshold at place p of a side accepts an image whose own place, of equals the last, is
        # not before p.
        places = [
            np.searchsorted(side, values, side="right") - 1
            for side, values in zip(sides, scores, strict=True)
        ]
        weakest = np.minimum(places[0], places[1])
        place = int(np.sort(weakest)[images - wanted])
        accepted = int((weakest >= place).sum())
        low, high = interval(accepted, images)
        similarity, confidence = (_between(side, place) for side in sides)
        return Thresholds(coverage, low, high, similarity, confidence)


def unit(features: Floats32) -> Floats32:
    """Return features (n, d) scaled to length 1."""
    lengths = np.sqrt(np.square(features).sum(1, keepdims=True))
    scaled: Floats32 = features / np.maximum(lengths, np.float32(1e-12))
    return scaled


def nearest(
    features: Floats32,
    references: Floats32,
    neighbours: int,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Floats64:
    """Return the mean cosine of features (n, d) to their nearest references (m, d), float64 (n,).

    The references have length 1. Pairs of the same number in `groups`, those of the features (n,)
    and those of the references (m,), do not count.
    """
    means, first = np.empty(len(features)), len(references) - neighbours
    step = max(1, CHUNK // max(references.shape))
    for start in range(0, len(features), step):
        part = slice(start, start + step)
        cosines = unit(features[part]) @ references.T
        if groups is not None:
            cosines[groups[0][part, None] == groups[1]] = -1
        means[part] = np.partition(cosines, first, axis=1)[:, first:].mean(1, dtype=np.float64)
    return means


def interval(accepted: int, images: int) -> tuple[float, float]:
    """Return the interval of the true coverage where `accepted` >= 2 of n images are.

    It has the beta distribution of (accepted - 1, n + 2 - accepted) where two images hold the
    thresholds (see `accepted_images`), and of (accepted, n + 1 - accepted) where one holds both.
    """
    tail = (1 - LEVEL) / 2
    low = _beta_quantile(accepted - 1, images + 2 - accepted, tail)
    return low, _beta_quantile(accepted, images + 1 - accepted, 1 - tail)


def _beta_quantile(a: int, b: int, share: float) -> float:
    """Return where the beta distribution of two whole numbers reaches a share, by bisection.

    Its distribution function at x is the chance of at least `a` hits in a + b - 1 draws.
    """
    draws = a + b - 1
    hits = np.arange(a, draws + 1, dtype=np.float64)
    sizes = zip(hits.tolist(), (draws - hits).tolist(), strict=True)
    all_ways = math.lgamma(draws + 1)
    ways = np.array([all_ways - math.lgamma(k + 1) - math.lgamma(rest + 1) for k, rest in sizes])
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        x = (low + high) / 2
        chance = np.exp(ways + hits * math.log(x) + (draws - hits) * math.log1p(-x)).sum()
        low, high = (x, high) if chance < share else (low, x)
    return (low + high) / 2


def _between(side: Floats64, place: int) -> float:
    """Return a number between the value at a place of a sorted side and the next smaller one.

    There is room on either side of it for what another library rounds.
    """
    here, first = float(side[place]), int(np.searchsorted(side, side[place]))
    return (here + float(side[first - 1])) / 2 if first else here - ROUNDING
