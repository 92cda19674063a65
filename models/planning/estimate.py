"""A rough estimate of how long a run takes, before anything was measured; torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from models.planning import augmentation
from models.planning.catalogue import Architecture
from models.planning.defaults import VIEWS

# Measured on two cores; an estimate may be wrong by a factor of three elsewhere.
ASSUMED_GIGAFLOPS = 60.0
ASSUMED_DECODES = 130.0
STARTING = 8.0
ENDING = 30.0


class Sizes(NamedTuple):
    """Images of each split."""

    train: int
    val: int
    test: int


def seconds(
    stages: Sequence[Mapping[str, Any]], facts: Architecture, sizes: Sizes
) -> tuple[float, str]:
    """Return the seconds of all stages on two ordinary cores, with the reason of the plan.

    `stages` are the values of their plans.
    """
    scale = (stages[0]["image_size"] / facts.input_size) ** 2
    forward = 2 * facts.gigaops * scale / ASSUMED_GIGAFLOPS
    whole = STARTING + sum(sizes) / ASSUMED_DECODES
    whole += (sum(sizes) + sizes.val + sizes.test) * forward
    for stage in stages:
        if stage["stage"] != "head":
            whole += stage["epochs"] * (3 * sizes.train + sizes.val) * forward
        elif augmentation.any_of(stage):
            whole += (VIEWS - 1) * sizes.train * forward
    limit = stages[0]["max_minutes"]
    reason = "rough estimate for two CPU cores without a GPU"
    return round(whole if limit is None else min(whole, 60 * limit + ENDING), 1), reason
