"""Find pictures that show the same, among a million, without comparing all pairs.

Of two 64-bit hashes that differ in at most five bits, at least one of six parts is equal (the
pigeonhole principle), so only pictures that share a part are compared. What is near in its 64
lowest frequencies is then held against all 256.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# `bench/near_duplicates.py` shows what these find and what they take for the same.
MOST_LOW, LOW_BYTES = 5, 8
MOST_BITS = 32
SIGN_WORDS = 4  # Of 8 bytes; what follows are three means of colours.
MOST_COLOUR = 12  # Of 255.
COMPARED = 4_000_000  # Pairs at a time: 32 MB.

Hashes = NDArray[np.uint8]
Pairs = NDArray[np.int64]


def clusters(hashes: Sequence[bytes]) -> list[list[int]]:
    """Return groups of two or more positions whose pictures are near, directly or by others.

    Args:
        hashes: As `perceptual_hash` gives them.
    """
    if not hashes:
        return []
    rows = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)
    # Equal ones first: a thousand copies of a picture would be half a million pairs.
    words = np.ascontiguousarray(rows).view([("", np.void, rows.shape[1])]).reshape(-1)
    _, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    parents = np.arange(len(first))
    for pairs in _near(rows[first]):
        _join(parents, pairs)
    roots = np.array([_root(parents, at) for at in range(len(parents))])[inverse.reshape(-1)]
    order = np.argsort(roots, kind="stable")
    cuts = np.flatnonzero(np.diff(roots[order])) + 1
    return [group.tolist() for group in np.split(order, cuts) if len(group) > 1]


def _near(rows: Hashes) -> Iterator[Pairs]:
    """Yield pairs of near rows, some of them more than once."""
    low = np.ascontiguousarray(rows[:, :LOW_BYTES]).view(np.uint64).reshape(-1)
    full = np.ascontiguousarray(rows[:, : 8 * SIGN_WORDS]).view(np.uint64)
    colours = rows[:, 8 * SIGN_WORDS :].astype(np.int16)
    for start, stop in _parts():
        part = (low >> np.uint64(start)) & np.uint64(2 ** (stop - start) - 1)
        order = np.argsort(part, kind="stable")
        cuts = np.flatnonzero(np.diff(part[order])) + 1
        edges = [0, *cuts.tolist(), len(order)]
        for begin, end in pairwise(edges):
            if end - begin > 1:
                yield from _near_within(order[begin:end], low, full, colours)


def _parts() -> list[tuple[int, int]]:
    """Return the bits of each part."""
    bits, parts = 8 * LOW_BYTES, MOST_LOW + 1
    cuts = [bits * n // parts for n in range(parts + 1)]
    return list(pairwise(cuts))


def _near_within(
    group: NDArray[np.intp],
    low: NDArray[np.uint64],
    full: NDArray[np.uint64],
    colours: NDArray[np.int16],
) -> Iterator[Pairs]:
    """Yield the near pairs of rows that share a part; a row is held against those behind it."""
    step = max(1, COMPARED // len(group))
    for start in range(0, len(group), step):
        these, others = group[start : start + step], group[start:]
        differ = np.bitwise_count(low[these, None] ^ low[None, others])
        one, other = np.nonzero(differ <= MOST_LOW)
        later = other > one
        left, right = these[one[later]], others[other[later]]
        bits = np.bitwise_count(full[left] ^ full[right]).sum(axis=1)
        near = bits <= MOST_BITS
        near &= (np.abs(colours[left] - colours[right]) <= MOST_COLOUR).all(axis=1)
        if near.any():
            yield np.stack((left[near], right[near]), axis=1)


def _join(parents: NDArray[np.int64], pairs: Pairs) -> None:
    for one, other in pairs.tolist():
        first, second = sorted((_root(parents, one), _root(parents, other)))
        parents[second] = first


def _root(parents: NDArray[np.int64], at: int) -> int:
    while parents[at] != at:
        parents[at] = parents[parents[at]]
        at = int(parents[at])
    return at
