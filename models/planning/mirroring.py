"""Mirroring: whether images may be flipped, judged by the names of their classes."""

from collections.abc import Iterable

_DIGITS = "zero one two three four five six seven eight nine"
_SIDES = "left right clockwise counterclockwise anticlockwise east west"
_CORNERS = "ne nw se sw northeast northwest southeast southwest"
_CHANGED = frozenset(f"{_DIGITS} {_SIDES} {_CORNERS}".split())


def changes(classes: Iterable[str]) -> str | None:
    """Return a class whose name is a number, a letter or a side; None where there is none.

    A mirrored 3 is no 3, and a mirrored "turn left" is a "turn right"; a mirrored cat is a cat.
    """
    for name in classes:
        words = name.lower().replace("_", " ").replace("-", " ").split()
        symbol = len(words) == 1 and (len(words[0]) == 1 or words[0].isdigit())
        if symbol or not _CHANGED.isdisjoint(words):
            return name
    return None
