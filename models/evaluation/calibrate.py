"""Calibration: divide the logits by one number, and let no confidence exceed what was seen.

One positive number cannot change the order of the classes, so every label stays
(arXiv:1706.04599). It is fitted on images that did not train what answers for them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.inference.calibration import probabilities

# From fewer images the estimate's own error costs more log loss than the usual overconfidence
# (a temperature of about 1.5) does: with 30 images of two classes it gains nothing on average.
LEAST_IMAGES = 50
COLDEST, HOTTEST = 0.1, 10.0
EVIDENCE = 1.96  # Standard errors that the estimate must lie below 1 to make answers surer.


@dataclass(frozen=True, slots=True)
class Calibration:
    """The divisor of the logits, from how many images, and why it is 1 where none was fitted.

    No confidence exceeds `ceiling`.
    """

    temperature: float = 1.0
    images: int = 0
    reason: str | None = None
    ceiling: float = 1.0

    @property
    def fitted(self) -> bool:
        """Whether the images decided the temperature."""
        return self.reason is None

    @property
    def stated(self) -> bool:
        """Whether there is anything that whoever serves the model has to know."""
        return self.fitted or self.ceiling < 1

    def served(self, logits: Tensor) -> Tensor:
        """Return the confidences that are served, float64 (n, classes)."""
        return probabilities(logits, self.temperature, self.ceiling)


def calibrate(logits: Tensor | None, labels: Tensor) -> Calibration:
    """Return the calibration from logits (n, classes) and labels (n,) of images held out.

    The temperature of the least log loss, 0.1..10, is drawn towards 1 by its own error, and its log
    loss is never above that of 1. It stays 1, with the reason, where the images cannot tell: too
    few, or not one wrong, for then the log loss falls for ever as the temperature goes to 0.

    The ceiling is (n + 1) / (n + 2), the chance that the next answer is right after n right ones
    (Laplace's rule of succession): more certainty no n images can support.
    """
    images = 0 if logits is None else len(logits)
    if logits is None or images < LEAST_IMAGES:
        words = f"{images} held-out images are too few to calibrate on; {LEAST_IMAGES} are needed"
        return Calibration(images=images, reason=words)
    ceiling = (images + 1) / (images + 2)
    if bool((logits.argmax(1) == labels).all()):
        words = "no held-out image is wrong, so they do not say how far to trust a confidence"
        return Calibration(images=images, reason=words, ceiling=ceiling)
    logits = logits.double()
    fitted = min(max(_minimum(logits, labels), COLDEST), HOTTEST)
    if fitted < HOTTEST:  # Beyond the bound there is no minimum to have an error.
        fitted = _shrunk(fitted, logits, labels)
    better = cross_entropy(logits / fitted, labels) < cross_entropy(logits, labels)
    return Calibration(fitted if better else 1.0, images, ceiling=ceiling)


def _shrunk(temperature: float, logits: Tensor, labels: Tensor) -> float:
    """Draw a temperature towards 1 by the error of its logarithm.

    The estimator of James and Stein (Fourth Berkeley Symposium, 1961), its positive part: an
    estimate no farther from 0 than its standard error becomes 0. Below 1, where answers become
    surer, the error counts EVIDENCE times. The error is that of a minimum of a sum of losses whose
    model need not hold (White, Econometrica 50, 1982).
    """
    logarithm = math.log(temperature)
    if logarithm == 0:
        return 1.0
    scaled = logits / temperature
    shares = scaled.softmax(1)
    means = (shares * scaled).sum(1)
    slopes = scaled.gather(1, labels[:, None])[:, 0] - means
    bend = (shares * (scaled - means[:, None]).square()).sum(1).mean()
    if bend <= 0:
        return 1.0
    variance = float(slopes.square().mean() / bend.square()) / len(logits)
    counted = variance * (EVIDENCE**2 if logarithm < 0 else 1.0)
    return math.exp(logarithm * max(0.0, 1 - counted / logarithm**2))


def _minimum(logits: Tensor, labels: Tensor) -> float:
    """Follow the log loss down; it has one minimum, as it is convex in 1 / temperature."""
    logarithm = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [logarithm],
        max_iter=100,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        search.zero_grad()
        value = cross_entropy(logits * torch.exp(-logarithm), labels)
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped.
        return value

    search.step(loss)  # type: ignore[no-untyped-call]  # As above.
    minimum = float(logarithm.detach())
    return math.exp(min(max(minimum, -50.0), 50.0)) if math.isfinite(minimum) else 1.0
