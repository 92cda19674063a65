"""Temperature scaling: divide the logits by one number so that confidence means accuracy.

One positive number cannot change the order of the classes, so every label stays
(arXiv:1706.04599). It is fitted on the validation images, which training did not see.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

# From fewer images the estimate's own error costs more log loss than the usual overconfidence
# (a temperature of about 1.5) does: with 30 images of two classes it gains nothing on average.
LEAST_IMAGES = 50
COLDEST, HOTTEST = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The divisor of the logits, from how many images, and why it is 1 where none was fitted."""

    temperature: float = 1.0
    images: int = 0
    reason: str | None = None

    @property
    def fitted(self) -> bool:
        """Whether the validation images decided the temperature."""
        return self.reason is None


def calibrate(logits: Tensor | None, labels: Tensor) -> Calibration:
    """Return the temperature with the least log loss on logits (n, classes) and labels (n,).

    It lies in 0.1..10 and its log loss is never above that of 1. It stays 1, with the reason, where
    the images cannot tell: too few, or not one wrong, for then the log loss falls for ever as the
    temperature goes to 0, and every confidence would become 1.
    """
    images = 0 if logits is None else len(logits)
    if logits is None or images < LEAST_IMAGES:
        words = f"{images} validation images are too few to calibrate on; {LEAST_IMAGES} are needed"
        return Calibration(images=images, reason=words)
    if bool((logits.argmax(1) == labels).all()):
        words = "no validation image is wrong, so they do not say how far to trust a confidence"
        return Calibration(images=images, reason=words)
    logits = logits.double()
    fitted = min(max(_minimum(logits, labels), COLDEST), HOTTEST)
    better = cross_entropy(logits / fitted, labels) < cross_entropy(logits, labels)
    return Calibration(fitted if better else 1.0, images)


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
