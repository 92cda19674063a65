"""Split images into train, val and test: stratified, seeded, and steady as files are added (pure).

An image's place follows from its own content: each class is sorted by a hash of seed and content,
val is cut from one end and test from the other. More files shift only the images at the cuts.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from topwork.errors import InvalidField
from topwork.kinds import Split

LARGEST = 0.9


@dataclass(frozen=True, slots=True)
class Ratios:
    """The shares of val and test, 0..0.9 together, and the seed of the order.

    Raises:
        InvalidField: A share is negative or nothing would be left to train on.
    """

    val: float = 0.2
    test: float = 0.0
    seed: int = 42

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test <= LARGEST):
            raise InvalidField(
                f"val and test must not be negative, and at most {LARGEST} together", param="split"
            )


def assign(classes: Mapping[str, Sequence[str]], ratios: Ratios) -> dict[str, Split]:
    """Return sha256 -> split for the sha256s of each class.

    A class gives at least one image to val (and from three images on to test) where a share is
    asked for, and always keeps at least one to train on.
    """
    places: dict[str, Split] = {}
    for hashes in classes.values():
        order = sorted(set(hashes), key=lambda sha256: _rank(sha256, ratios.seed))
        val = _share(ratios.val, len(order), most=len(order) - 1)
        test = _share(ratios.test, len(order), most=len(order) - 1 - val)
        cut = len(order) - test
        places |= dict.fromkeys(order[:val], Split.VAL)
        places |= dict.fromkeys(order[val:cut], Split.TRAIN)
        places |= dict.fromkeys(order[cut:], Split.TEST)
    return places


def _rank(sha256: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{sha256}".encode()).digest()


def _share(ratio: float, total: int, *, most: int) -> int:
    wanted = max(1, int(ratio * total + 0.5)) if ratio > 0 else 0
    return max(0, min(wanted, most))


@dataclass(frozen=True, slots=True)
class Copy:
    """One file of an image: where it lies, and the split it was given, if any."""

    path: str
    class_name: str
    split: Split | None


HELD_OUT_FIRST = {Split.TEST: 0, Split.VAL: 1, Split.TRAIN: 2, None: 3}


def choose(copies: Iterable[Copy]) -> tuple[Copy | None, dict[str, tuple[str, str]]]:
    """Return which of the byte-identical copies of an image is used, and why the others are not.

    Under two classes none can be trusted. Across splits the held-out copy stays, because an image
    that was trained on measures nothing. Otherwise the first path stays. A reason is a code and
    the path of the copy that it is about.
    """
    ordered = sorted(copies, key=lambda copy: (HELD_OUT_FIRST[copy.split], copy.path))
    first, *others = ordered
    contrary = next((copy for copy in others if copy.class_name != first.class_name), None)
    if contrary is not None:
        against = {first.class_name: contrary.path}
        return None, {
            copy.path: ("label_conflict", against.get(copy.class_name, first.path))
            for copy in ordered
        }
    same = {True: "duplicate", False: "split_leak"}
    return first, {copy.path: (same[copy.split == first.split], first.path) for copy in others}
