"""What one forward pass of any engine gives; needs no torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Outputs(NamedTuple):
    """Logits, float32 (N, classes), and the features that they were made of, float32 (N, d)."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
