"""Views: how large decoded images are kept, from which training cuts its views; torch-free."""

import math
from collections.abc import Mapping

from models.planning import conditions as when
from models.planning.augmentation import AREA, ZOOM
from models.planning.draft import Draft
from models.planning.rules import ELSE, Condition, Rule

MOST_BYTES = 4 << 30
"""Of all decoded training images; more images are kept smaller, down to the side of the input."""
REACH = 1.5
"""Of the short side: as far a turned, zoomed and shifted square in the middle of an image sees."""


def needed(draft: Draft) -> int | None:
    """Return the side in pixels from which the smallest view fills the input, or None.

    Of random crops it is that of a square with as many pixels as a decoded image, of small moves
    the short side. Without either, images are kept as the network takes them.
    """
    side, name = draft.image_size, draft.augmentation
    if name == "light":
        return math.ceil(side / (1 - ZOOM))
    if name in AREA and side > when.SMALL_INPUT:
        return math.ceil(side / math.sqrt(AREA[name][0]))
    return None


def affordable(draft: Draft) -> int:
    """Return the largest side at which all decoded images fit into `MOST_BYTES`."""
    pixels = MOST_BYTES / (3 * max(1, draft.images.train))
    pixels /= REACH if draft.augmentation == "light" else 1
    return max(draft.image_size, math.isqrt(int(pixels)))


def _side(draft: Draft) -> int:
    return min(needed(draft) or 0, affordable(draft), draft.largest or affordable(draft))


_UNCUT = Condition(lambda draft: needed(draft) is None)
_SMALL_SOURCE = Condition(lambda draft: _side(draft) == draft.largest)
_MANY = Condition(lambda draft: _side(draft) < (needed(draft) or 0))
RULES: Mapping[str, tuple[Rule, ...]] = {
    "canvas": (
        Rule(_UNCUT, None),
        Rule(_SMALL_SOURCE, _side, "no image has more pixels than a square of this side"),
        Rule(
            _MANY,
            _side,
            f"{{draft.images.train}} decoded images may take {MOST_BYTES >> 30} GB; the smallest"
            " random crops are enlarged",
        ),
        Rule(
            ELSE,
            _side,
            "the smallest random crop fills the {draft.image_size} pixels of the input without"
            " being enlarged",
        ),
    ),
}
