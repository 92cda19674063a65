"""What each cell of a network's last maps adds to a class: class activation maps, without torch.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016 (arXiv 1512.04150).
A probability depends on how far a logit lies from the others, so a map is of this distance: the
class against what else the network takes the image for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.inference.outputs import LinearHead
from topwork.errors import IntegrityError

Cells = NDArray[np.float64]
METHOD = "cam"
CLOSE = 1e-3  # Of the largest summand: float32 sums of another order differ by far less.


@dataclass(frozen=True)
class HeatMap:
    """How an answer came about.

    Attributes:
        index: Of the class, among the network's outputs.
        cells: Float64 (h, w) over the crop, row by row; their mean and `bias` add up to `margin`.
        bias: What is added wherever one looks.
        margin: Distance of the class's logit from those of the others, by their weight.
    """

    index: int
    cells: Cells
    bias: float
    margin: float


def against(logits: NDArray[np.float32], index: int) -> NDArray[np.float64]:
    """Return the weights (classes,) by which logits add up to the margin of a class.

    It has 1, the others have minus their shares of the probability that they have together.
    """
    others = logits.astype(np.float64)
    others[index] = -np.inf
    if len(others) == 1:
        return np.ones(1)
    powers = np.exp(others - others.max())
    weights: NDArray[np.float64] = -powers / powers.sum()
    weights[index] = 1.0
    return weights


def heat_map(
    logits: NDArray[np.float32],
    maps: NDArray[np.float32],
    head: LinearHead | None,
    index: int,
) -> HeatMap:
    """Return what each cell adds to a class.

    Args:
        logits: Float32 (classes,) of the image.
        maps: Float32 (k, h, w) of the same pass.
        head: What turns their average into logits; without one a map is a class's own.
        index: Of the class.

    Raises:
        IntegrityError: The cells do not add up to the answer, so that they cannot explain it.
    """
    weights = against(logits, index)
    margin = float(weights @ logits)
    if head is None:
        summands, bias = weights, 0.0
    else:
        summands, bias = weights @ head.weight, float(weights @ head.bias)
    cells: Cells = np.tensordot(summands, maps.astype(np.float64), 1)
    apart = abs(float(cells.mean()) + bias - margin)
    largest = max(1.0, float(np.abs(logits).max()), float(np.abs(cells).max()))
    if not apart <= CLOSE * largest:
        raise IntegrityError("The maps of this model do not add up to its answer.")
    return HeatMap(index, cells, bias, margin)
