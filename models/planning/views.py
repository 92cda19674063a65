"""Views: what the network sees of an image, and how large decoded images are kept; torch-free."""

import math
from collections.abc import Mapping

from models.planning import conditions as when
from models.planning.augmentation import AREA, ZOOM
from models.planning.draft import Draft
from models.planning.rules import ELSE, GIVEN, Condition, Rule

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


ENOUGH = 0.1
"""Share of elongated images from which on all are padded; the others lose some of their size."""
_LEFT_OUT = (
    "{draft.elongated} of {draft.total} images are longer than 2:1, of which {draft.unseen:.0%}"
    " is never seen in the square in the middle"
)
_CROPPED = Condition(lambda draft: draft.asked("fit") == "crop")
_UNKNOWN = Condition(lambda draft: draft.elongated is None)
_SOME = Condition(lambda draft: bool(draft.elongated))
_ENOUGH = Condition(lambda draft: (draft.elongated or 0) >= max(1, ENOUGH * draft.total))
FIT = (
    Rule(_CROPPED & _SOME, "crop", f"{GIVEN}; {_LEFT_OUT}", binding=True),
    Rule(when.FROM_A_MODEL, lambda d: d.parent_fit, "as the model to start from sees images"),
    Rule(_UNKNOWN, "crop", "the square in the middle; the images' sizes are not known here"),
    Rule(_ENOUGH, "pad", f"{_LEFT_OUT}: the whole image is, with a margin around it"),
    Rule(_SOME, "crop", f"{_LEFT_OUT}: too few to make all others smaller for them"),
    Rule(ELSE, "crop", "the square in the middle; no image is longer than 2:1"),
)

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
