"""From logits to the confidences that are served, by what a model's card states."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import IntegrityError

if TYPE_CHECKING:  # A predictor may have no need of torch, which takes most of its memory.
    from torch import Tensor

LEAST_FACTOR = 1e-3  # Of `mixing`; what is left of the answer by less may round to equal shares.


def stated(card: dict[str, Any]) -> tuple[float, float]:
    """Return the temperature and the ceiling of a card; 1 where it states none.

    Raises:
        IntegrityError: They are no numbers.
    """
    try:
        calibration = card.get("calibration") or {}
        return float(calibration.get("temperature", 1.0)), float(calibration.get("ceiling", 1.0))
    except (AttributeError, TypeError, ValueError) as error:
        raise IntegrityError("The card's calibration cannot be read.") from error


def check(temperature: float, ceiling: float, classes: int) -> None:
    """Refuse numbers by which some logits have no finite answer, or another order.

    Raises:
        IntegrityError: The temperature is none above 0, or float64 cannot hold what it makes of
            float32; the ceiling is not within 0..1, or not above 1 / classes.
    """
    farthest = 2 * float(np.finfo(np.float32).max)  # Between two logits.
    if not (0 < temperature < math.inf and math.isfinite(farthest / temperature)):
        raise IntegrityError(f"A temperature of {temperature} cannot calibrate anything.")
    if not (0 < ceiling <= 1 and mixing(classes, ceiling)[0] >= LEAST_FACTOR):
        raise IntegrityError(
            f"A ceiling of {ceiling} is none for confidences of {classes} classes."
        )


def mixing(classes: int, ceiling: float) -> tuple[float, float]:
    """Return the factor and the summand of plain confidences that let none exceed the ceiling.

    They mix the answer with as much of the uniform one as is needed where it is certain.
    """
    if ceiling >= 1 or classes < 2:  # noqa: PLR2004 - a single class is certain.
        return 1.0, 0.0
    uniform = (1 - ceiling) / (1 - 1 / classes)
    return 1 - uniform, uniform / classes


def calibrated(logits: "Tensor", temperature: float, ceiling: float) -> "Tensor":
    """Return the confidences of logits (n, classes), in float64 on their device.

    They are the softmax of logits / temperature, mixed with as much of the uniform answer as lets
    none exceed the ceiling, 0..1. Both leave the classes in their order.
    """
    plain = (logits.double() / temperature).softmax(dim=-1)
    factor, summand = mixing(plain.shape[-1], ceiling)
    return plain * factor + summand


def probabilities(logits: "Tensor", temperature: float = 1.0, ceiling: float = 1.0) -> "Tensor":
    """Return the same without gradients on the CPU."""
    return calibrated(logits.detach().cpu(), temperature, ceiling)


def served(
    logits: NDArray[np.float32], temperature: float = 1.0, ceiling: float = 1.0
) -> NDArray[np.float64]:
    """Return the same of an array, which needs no torch."""
    exact = logits.astype(np.float64) / temperature
    with np.errstate(invalid="ignore"):  # What is not finite is no answer: see `Classifier.rank`.
        powers = np.exp(exact - exact.max(-1, keepdims=True))
        plain = powers / powers.sum(-1, keepdims=True)
    factor, summand = mixing(plain.shape[-1], ceiling)
    confidences: NDArray[np.float64] = plain * factor + summand
    return confidences
