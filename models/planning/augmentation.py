"""How training images are varied, decided by what the classes are called: pure, torch-free."""

from collections.abc import Iterable, Mapping
from typing import Any

from topwork.errors import InvalidField
from topwork.types.training import TrainConfig

Choice = tuple[Any, str]

FIELDS = ("augmentation", "augmentation_policy", "erasing")  # What changes single images.
STRONG_ERASING = 0.25
UNMIXED = (0.0, "a frozen trunk's features are computed once, from whole images")
_DIGITS = "zero one two three four five six seven eight nine"
_SIDES = "left right clockwise counterclockwise anticlockwise east west"
_CORNERS = "ne nw se sw northeast northwest southeast southwest"
_CHANGED_BY_MIRRORING = frozenset(f"{_DIGITS} {_SIDES} {_CORNERS}".split())


def mirroring_changes(classes: Iterable[str]) -> str | None:
    """Return a class whose name is a number, a letter or a side; None where there is none.

    A mirrored 3 is no 3, and a mirrored "turn left" is a "turn right"; a mirrored cat is a cat.
    """
    for name in classes:
        words = name.lower().replace("_", " ").replace("-", " ").split()
        symbol = len(words) == 1 and (len(words[0]) == 1 or words[0].isdigit())
        if symbol or not _CHANGED_BY_MIRRORING.isdisjoint(words):
            return name
    return None


def auto(usual: Choice, classes: Iterable[str]) -> Choice:
    """Return the augmentation for these classes where `usual` is what their mode likes best."""
    if usual[0] != "standard" or (name := mirroring_changes(classes)) is None:
        return usual
    return "light", f"mirroring could change the meaning of a class called '{name}'"


def additions(augmentation: str, mode: str) -> dict[str, Choice]:
    """Return what comes on top of crop, shift and flip: automatic values with reasons."""
    strong = augmentation == "strong"
    why = "part of `strong`" if strong else "only `strong` changes images that much"
    mixing = (0.0, "mixed images need more epochs than most runs have")
    if mode == "head":
        mixing = UNMIXED
    return {
        "augmentation_policy": ("trivial_augment" if strong else "none", why),
        "erasing": (STRONG_ERASING if strong else 0.0, why),
        "mixup": mixing,
        "cutmix": mixing,
    }


def refuse_mixing(config: TrainConfig) -> None:
    """Raise InvalidField where images were to be mixed though none are trained on."""
    for name in ("mixup", "cutmix"):
        if getattr(config, name) not in ("auto", 0):
            raise InvalidField(
                "A frozen trunk sees no mixed images, as its features are computed once.",
                param=name,
                hint='Use "strategy": "full" to train on mixed images.',
            )


def any_of(values: Mapping[str, Any]) -> bool:
    """Tell whether the values of FIELDS change images at all."""
    named = {values["augmentation"], values["augmentation_policy"]}
    return named != {"none"} or bool(values["erasing"])
