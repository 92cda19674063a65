"""Split images into train, val and test: stratified, seeded, and steady as files are added (pure).

An image's place follows from its own content: each class is sorted by a hash of seed and content,
val is cut from one end and test from the other. More files shift only the images at the cuts.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from topwork.errors import InvalidField
from topwork.kinds import GroupBy, Split

LARGEST = 0.9


@dataclass(frozen=True, slots=True)
class Ratios:
    """The shares of val and test, 0..0.9 together, the seed of the order, what stays together.

    `group_pattern` and `group_column` belong to the `group_by` of their names.

    Raises:
        InvalidField: A share is negative or nothing would be left to train on.
    """

    val: float = 0.2
    test: float = 0.0
    seed: int = 42
    group_by: GroupBy = GroupBy.NEAR_DUPLICATES
    group_pattern: str | None = None
    group_column: str | None = None

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test <= LARGEST):
            raise InvalidField(
                f"val and test must not be negative, and at most {LARGEST} together", param="split"
            )


def assign(
    classes: Mapping[str, Sequence[str]], ratios: Ratios, groups: Mapping[str, str] | None = None
) -> dict[str, Split]:
    """Return sha256 -> split for the sha256s of each class.

    A class gives at least one image to val (and from three images on to test) where a share is
    asked for, and always keeps at least one to train on.

    Args:
        classes: sha256s of each class.
        ratios: How many go where.
        groups: sha256 -> name of its group, which goes to one split as a whole: to train where it
            has images of several classes. A share is then as near as groups allow.
    """
    groups = groups or {}
    owners: dict[str, set[str]] = defaultdict(set)
    for name, hashes in classes.items():
        for sha256 in hashes:
            owners[groups.get(sha256, sha256)].add(name)
    places: dict[str, Split] = {}
    for hashes in classes.values():
        units: dict[str, list[str]] = defaultdict(list)
        for sha256 in set(hashes):
            units[groups.get(sha256, sha256)].append(sha256)
        shares = _shares(ratios, sum(map(len, units.values())))
        order = sorted(units, key=lambda unit: _rank(unit, ratios.seed))
        free = {unit: len(units[unit]) for unit in order if len(owners[unit]) == 1}
        for split, share in shares.items():
            ranked = list(free) if split is Split.VAL else list(reversed(free))
            sizes = {unit: free[unit] for unit in ranked}
            # Unless groups of other classes as well are trained on, one of its own has to be.
            taken = _fill(sizes, share, keep=len(free) == len(units))
            for unit in taken:
                del free[unit]
                places |= dict.fromkeys(units.pop(unit), split)
        for rest in units.values():
            places |= dict.fromkeys(rest, Split.TRAIN)
    return places


def _fill(sizes: Mapping[str, int], share: int, *, keep: bool) -> list[str]:
    """Return units of a share's size together, in their order; the smallest where none fits.

    Args:
        sizes: Unit -> images.
        share: How many images are wanted.
        keep: One unit at least has to be left.
    """
    taken: list[str] = []
    left = share
    for unit, size in sizes.items():
        if size <= left and len(taken) + keep < len(sizes):
            taken.append(unit)
            left -= size
    if share and not taken and len(sizes) > keep:
        taken = [min(sizes, key=lambda unit: sizes[unit])]
    return taken


def _rank(sha256: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{sha256}".encode()).digest()


def missed(
    classes: Mapping[str, Sequence[str]], ratios: Ratios, places: Mapping[str, Split]
) -> dict[Split, tuple[int, int]]:
    """Return (images that are there, images that were asked for) of each split that is far off.

    Groups decide how near a share can be; it is far off by more than half of what was asked for.

    Args:
        classes: sha256s of each class.
        ratios: How many were to go where.
        places: As `assign` returned them.
    """
    wanted: Counter[Split] = Counter()
    for hashes in classes.values():
        wanted.update(_shares(ratios, len(set(hashes))))
    got = Counter(places.values())
    pairs = {split: (got[split], share) for split, share in wanted.items()}
    return {split: it for split, it in pairs.items() if 2 * abs(it[0] - it[1]) > it[1]}


def _shares(ratios: Ratios, total: int) -> dict[Split, int]:
    """Return how many of a class's images are wanted in val and in test."""
    val = _share(ratios.val, total, most=total - 1)
    return {Split.VAL: val, Split.TEST: _share(ratios.test, total, most=total - 1 - val)}


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
