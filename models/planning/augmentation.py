"""Augmentation: how training images are varied; torch-free."""

from collections.abc import Mapping
from typing import Any

from models.planning import conditions as when
from models.planning.draft import AUTO, Draft
from models.planning.rules import ELSE, GIVEN, Condition, Rule

AREA: Mapping[str, tuple[float, float]] = {"standard": (0.35, 1.0), "strong": (0.08, 1.0)}
"""Shares of an image that a random crop may have, of those that crop."""
ZOOM = 0.1
"""By how much `light` enlarges and reduces the middle of an image."""
VIEWS = 4  # Of each image through a frozen trunk when augmentation is asked for.


def any_of(values: Mapping[str, Any]) -> bool:
    """Tell whether the values of `conditions.VARIED` change images at all."""
    named = {values["augmentation"], values["augmentation_policy"]}
    return named != {"none"} or bool(values["erasing"])


STRONG = Condition(lambda draft: draft.augmentation == "strong")
ASKED_FOR = Condition(when.augmentation_asked_for)


def _asked(draft: Draft) -> Any:
    asked = draft.asked("augmentation")
    return "none" if asked == AUTO else asked


_UNMIXED = "a frozen trunk's features are computed once, from whole images"
_MIXING = (
    Rule(when.HEAD, 0.0, _UNMIXED, binding=True),
    Rule(ELSE, 0.0, "mixed images need more epochs than most runs have"),
)
RULES: Mapping[str, tuple[Rule, ...]] = {
    "augmentation": (
        Rule(
            when.HEAD & ASKED_FOR,
            _asked,
            f"{GIVEN}: the trunk sees {VIEWS} views of each image",
            binding=True,
        ),
        Rule(when.HEAD, "none", "the frozen trunk sees each image once"),
        Rule(
            when.SIDED,
            "light",
            "mirroring could change the meaning of a class called '{draft.sided}'",
        ),
        Rule(when.SCRATCH, "standard", "what is mirrored and shifted a little keeps its meaning"),
        Rule(ELSE, "standard", "photographs keep their meaning when cropped and mirrored"),
    ),
    "augmentation_policy": (
        Rule(STRONG, "trivial_augment", "part of `strong`"),
        Rule(ELSE, "none", "only `strong` changes images that much"),
    ),
    "erasing": (
        Rule(STRONG, 0.25, "part of `strong`"),
        Rule(ELSE, 0.0, "only `strong` changes images that much"),
    ),
    "mixup": _MIXING,
    "cutmix": _MIXING,
}
