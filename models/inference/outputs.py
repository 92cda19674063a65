"""What one forward pass of any engine gives; needs no torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Outputs(NamedTuple):
    """Logits, float32 (N, classes), and the features that they were made of, float32 (N, d)."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


class Mapped(NamedTuple):
    """The same with the maps, float32 (N, k, h, w), whose average over space makes the logits."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    maps: NDArray[np.float32]


class LinearHead(NamedTuple):
    """What turns that average into logits: weight, float32 (classes, k), and bias (classes,)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
