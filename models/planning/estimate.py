"""A rough estimate of how long a run takes, before anything was measured; torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.planning.augmentation import VIEWS, any_of
from models.planning.catalogue import Architecture
from models.planning.draft import Sizes

# Measured on two cores; an estimate may be wrong by a factor of three elsewhere.
ASSUMED_GIGAFLOPS = 60.0
ASSUMED_DECODES = 130.0
STARTING = 8.0
ENDING = 30.0


def seconds(
    stages: Sequence[Mapping[str, Any]], architecture: Architecture, images: Sizes
) -> tuple[float, str]:
    """Return the seconds of all stages on two ordinary cores, with the reason of the plan.

    `stages` are the values of their plans.
    """
    scale = (stages[0]["image_size"] / architecture.input_size) ** 2
    forward = 2 * architecture.gigaops * scale / ASSUMED_GIGAFLOPS
    whole = STARTING + sum(images) / ASSUMED_DECODES
    whole += (sum(images) + images.val + images.test) * forward
    for stage in stages:
        if stage["stage"] != "head":
            whole += stage["epochs"] * (3 * images.train + images.val) * forward
        elif any_of(stage):
            whole += (VIEWS - 1) * images.train * forward
    limit = stages[0]["max_minutes"]
    reason = "rough estimate for two CPU cores without a GPU"
    return round(whole if limit is None else min(whole, 60 * limit + ENDING), 1), reason
