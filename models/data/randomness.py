"""Randomness as a pure function of (seed, epoch, sample).

No generator is carried along, so the result depends neither on the number of loader workers nor
on where a run was interrupted. The mixing function is SplitMix64 (Steele, Lea, Flood 2014,
doi:10.1145/2714064.2660195).
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)

ORDER, AUGMENT, STEP, FOLD, INITIAL, POLICY = range(6)  # What a stream of numbers is for.


def bits(*keys: int | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash the keys into 64 random bits each; arrays broadcast."""
    with np.errstate(over="ignore"):
        mixed = np.zeros(1, np.uint64)
        for key in keys:
            mixed = _mix((mixed ^ np.asarray(key, np.uint64)) + _GOLDEN)
    return mixed


def uniforms(
    stream: int, seed: int, epoch: int, samples: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """Return `count` numbers in [0, 1) for each sample, shape (samples, count)."""
    columns = np.arange(count, dtype=np.uint64)[None, :]
    hashed = bits(stream, seed, epoch, samples.astype(np.uint64)[:, None], columns)
    return ((hashed >> np.uint64(40)).astype(np.float64) / 2**24).astype(np.float32)


def order(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """Return the permutation of 0..size-1 in which an epoch visits its samples."""
    return np.argsort(bits(ORDER, seed, epoch, np.arange(size, dtype=np.uint64)), kind="stable")


def drawn(seed: int, epoch: int, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw as many samples as there are, with replacement, in proportion to their weights."""
    size = len(weights)
    hashed = bits(ORDER, seed, epoch, np.arange(size, dtype=np.uint64))
    points = (hashed >> np.uint64(11)).astype(np.float64) / 2**53
    edges = np.cumsum(weights / weights.sum())
    return np.minimum(np.searchsorted(edges, points, side="right"), size - 1)


def step_seed(seed: int, epoch: int, step: int, rank: int = 0) -> int:
    """Return the seed of everything random inside one training step, such as dropout.

    Processes that train together have other images of a batch, so each `rank` draws its own.
    """
    keys = (seed, epoch, step, rank) if rank else (seed, epoch, step)
    return int(bits(STEP, *keys)[0] >> np.uint64(1))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _M1
    values = (values ^ (values >> np.uint64(27))) * _M2
    return values ^ (values >> np.uint64(31))
