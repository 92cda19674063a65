"""A rough estimate of how long a run takes, before anything was measured; torch-free."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from models.catalogue import Architecture
from models.modes import VIEWS

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


def seconds(values: Mapping[str, Any], facts: Architecture, sizes: Sizes) -> tuple[float, str]:
    """Return the seconds of a whole run on two ordinary cores, with the reason of the plan."""
    scale = (values["image_size"] / facts.input_size) ** 2
    forward = 2 * facts.gigaops * scale / ASSUMED_GIGAFLOPS
    passes = sum(sizes) / ASSUMED_DECODES + (sum(sizes) + sizes.val + sizes.test) * forward
    if values["mode"] == "head" and values["augmentation"] != "none":
        passes += (VIEWS - 1) * sizes.train * forward
    elif values["mode"] != "head":
        passes += values["epochs"] * (3 * sizes.train + sizes.val) * forward
    limit = values["max_minutes"]
    whole = passes + STARTING if limit is None else min(passes + STARTING, 60 * limit + ENDING)
    return round(whole, 1), "rough estimate for two CPU cores without a GPU"
