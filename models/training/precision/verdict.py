"""The verdict: the fastest candidate that computes the same, and the words for it."""

import math
from typing import Any

from torch import Tensor

from models.compute.execution import Execution
from models.training.precision.timing import Trials

LEAST_GAIN = 1.1  # Timings of one and the same thing differ by nearly as much.
LOSS_TOLERANCE = 0.05  # Of the loss in fp32, or of 1 where that is smaller.
FEATURE_TOLERANCE = 0.03  # Norm of the difference, over the norm of the features in fp32.


def judge(trials: Trials) -> dict[str, Any]:
    """Return the fields of the winner with its reason: fp32 where a gain is next to nothing."""
    seconds, outcomes = trials.seconds, trials.outcomes
    plain, *others = seconds
    agree = features_agree if trials.workload.forward else losses_agree
    compared = [other for other in others if math.isfinite(seconds[plain] + seconds[other])]
    right = [other for other in compared if agree(outcomes[other], outcomes[plain])]
    best = min(right, key=lambda candidate: seconds[candidate], default=plain)
    if seconds[plain] < LEAST_GAIN * seconds[best]:
        best = plain

    def result(other: Execution) -> str:
        if other not in compared:
            return "failed" if math.isinf(seconds[other]) else "not compared, as fp32 failed"
        times = f"{seconds[plain] / seconds[other]:.2f}x"
        return times if other in right else f"{times} (another result)"

    results = ", ".join(f"{other.arithmetic} {result(other)}" for other in others)
    results = results or "there was no time for any other"
    unit = f"one {'pass' if trials.workload.forward else 'training step'}"
    words = f"measured here, {unit} of {len(trials.images)} images against {plain.arithmetic}"
    return {
        "precision": best.precision,
        "grouped_fp32": best.grouped_fp32,
        "channels_last": best.channels_last,
        "engine": best.engine,
        "reason": f"{words}: {results}; a gain below {LEAST_GAIN - 1:.0%} counts as none",
    }


def losses_agree(losses: Tensor, plain: Tensor) -> bool:
    """Tell whether losses are those of fp32, within the tolerance."""
    return bool(((losses - plain).abs() <= LOSS_TOLERANCE * plain.abs().clamp(min=1)).all())


def features_agree(features: Tensor, plain: Tensor) -> bool:
    """Tell whether the features of every image are those of fp32, within the tolerance."""
    apart = (features - plain).flatten(1).norm(dim=1)
    return bool((apart <= FEATURE_TOLERANCE * plain.flatten(1).norm(dim=1)).all())
