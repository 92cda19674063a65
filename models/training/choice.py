"""Which epoch is kept: what a metric can tell first, then the log loss.

On a few validation images accuracy moves in steps of several per cent, and chance decides which
of many epochs has the most of it. All within one standard error of the best are equally good for
all that is known (the rule of Breiman et al., "Classification and Regression Trees", 1984); of
these the log loss, which every image moves, decides. The training loop calls it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from models.evaluation.intervals import standard_error


def better(
    record: Mapping[str, Any],
    kept: Mapping[str, Any],
    seen: Sequence[Mapping[str, Any]],
    *,
    metric: str,
    images: int,
) -> bool:
    """Tell whether an epoch is to be kept instead of the one that is.

    Args:
        record: The epoch just finished.
        kept: The one kept so far, perhaps of the stage before.
        seen: The earlier epochs that were candidates.
        metric: Name of the score that the epochs are chosen by.
        images: Validation images it was measured on.
    """
    if metric.endswith("loss"):
        return bool(record[metric] < kept[metric])
    top = max(one[metric] for one in (*seen, kept, record))
    bound = top - standard_error(min(max(top, 0.0), 1.0), images)
    inside, still = record[metric] >= bound, kept[metric] >= bound
    return bool(record["val_loss"] < kept["val_loss"]) if inside == still else inside
