"""Find pictures that show the same, among a million, without comparing all pairs.

Of two 64-bit hashes that differ in at most five bits, at least one of six parts is equal (the
pigeonhole principle), so only pictures that share a part are compared. What is near in its 64
lowest frequencies is then held against all 256. Rows that are joined already are not compared once
more: thousands of frames of one film would be millions of pairs.
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
SIDE = 256  # Rows that are held against as many at a time: 9 MB where all of them are near.

Hashes = NDArray[np.uint8]
Rows = NDArray[np.intp]


def clusters(hashes: Sequence[bytes]) -> list[list[int]]:
    """Return groups of two or more positions whose pictures are near, directly or by others.

    Args:
        hashes: As `perceptual_hashes` gives them.
    """
    if not hashes:
        return []
    rows = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)
    # Equal ones first: a thousand copies of a picture would be half a million pairs.
    words = np.ascontiguousarray(rows).view([("", np.void, rows.shape[1])]).reshape(-1)
    _, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    different = _Rows(rows[first])
    for group in _sharing_a_part(different.low):
        different.join_near(group)
    roots = different.roots(np.arange(len(first)))[inverse.reshape(-1)]
    order = np.argsort(roots, kind="stable")
    cuts = np.flatnonzero(np.diff(roots[order])) + 1
    return [group.tolist() for group in np.split(order, cuts) if len(group) > 1]


def _sharing_a_part(low: NDArray[np.uint64]) -> Iterator[Rows]:
    """Yield the rows of which a part is equal, part by part."""
    for start, stop in _parts():
        part = (low >> np.uint64(start)) & np.uint64(2 ** (stop - start) - 1)
        order = np.argsort(part, kind="stable")
        cuts = np.flatnonzero(np.diff(part[order])) + 1
        edges = [0, *cuts.tolist(), len(order)]
        yield from (order[begin:end] for begin, end in pairwise(edges) if end - begin > 1)


def _parts() -> list[tuple[int, int]]:
    """Return the bits of each part."""
    bits, parts = 8 * LOW_BYTES, MOST_LOW + 1
    cuts = [bits * n // parts for n in range(parts + 1)]
    return list(pairwise(cuts))


class _Rows:
    """Hashes, and which of them are joined: a forest in which each tree is a cluster."""

    def __init__(self, rows: Hashes) -> None:
        self.low = np.ascontiguousarray(rows[:, :LOW_BYTES]).view(np.uint64).reshape(-1)
        self._full = np.ascontiguousarray(rows[:, : 8 * SIGN_WORDS]).view(np.uint64)
        self._colours = rows[:, 8 * SIGN_WORDS :].astype(np.int16)
        self._parents: Rows = np.arange(len(rows))

    def roots(self, rows: Rows) -> Rows:
        """Return the root of each of some rows."""
        found = self._parents[rows]
        while not np.array_equal(above := self._parents[found], found):
            found = above
        self._parents[rows] = found
        return found

    def join_near(self, group: Rows) -> None:
        """Join the near ones of some rows, some hundred against some hundred at a time."""
        for start in range(0, len(group), SIDE):
            for behind in range(start, len(group), SIDE):
                self._join_between(group[start : start + SIDE], group[behind : behind + SIDE])

    def _join_between(self, these: Rows, others: Rows) -> None:
        one, other = self.roots(these), self.roots(others)
        if (one == one[0]).all() and (other == one[0]).all():
            return
        near = np.bitwise_count(self.low[these, None] ^ self.low[others]) <= MOST_LOW
        at, against = np.nonzero(near)
        apart = one[at] != other[against]
        at, against = at[apart], against[apart]
        if not len(at):
            return
        left, right = these[at], others[against]
        bits = np.bitwise_count(self._full[left] ^ self._full[right]).sum(axis=1)
        alike = bits <= MOST_BITS
        alike &= (np.abs(self._colours[left] - self._colours[right]) <= MOST_COLOUR).all(axis=1)
        self._join(left[alike], right[alike])

    def _join(self, left: Rows, right: Rows) -> None:
        """Join pairs of rows by one pair for each root that has any, until none is apart.

        Each round at least halves how many roots have another one to join (Boruvka), so that all
        rounds together take no more steps than there are rows.
        """
        while len(left):
            left, right = self.roots(left), self.roots(right)
            apart = left != right
            left, right = left[apart], right[apart]
            ends, first = np.unique(np.concatenate((left, right)), return_index=True)
            partners = np.concatenate((right, left))[first]
            for one, other in zip(ends.tolist(), partners.tolist(), strict=True):
                lower, upper = sorted((self._root(one), self._root(other)))
                self._parents[upper] = lower

    def _root(self, row: int) -> int:
        while (above := int(self._parents[row])) != row:
            self._parents[row] = self._parents[above]
            row = above
        return row
