"""Compare checked rows of the cache with a mapped file: python bench/cached_rows.py [ROUNDS].

A batch of pixels is read from a file beyond what is held in memory (row by row, each hashed), from
one that is held, and copied out of a mapping of the same file, which checks nothing. The file lies
in the page cache; the three take turns in random order.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.system.machine import cores
from models.data import cache
from models.data.cache import Cache
from models.data.rows import Kind

BATCH, SEED = 32, 7
# Side of the squares and how many; the larger ones are more than the cache holds in memory.
SIZES = {32: 4000, 224: 2 * cache.HELD_BYTES // (3 * 224 * 224)}


def measure(side: int, count: int, rounds: int) -> dict[str, list[float]]:
    """Return microseconds a row of each way, by round."""
    rng = np.random.default_rng(SEED)
    kind = Kind("bench", {"side": side}, (3, side, side), np.uint8)
    names = [number.to_bytes(32, "big") for number in range(count)]

    def make(missing: list[int]) -> Iterator[NDArray[Any]]:
        for _ in missing:
            yield rng.integers(0, 256, (1, *kind.shape), np.uint8)

    with tempfile.TemporaryDirectory() as folder:
        store = Cache(Path(folder), lambda: None)
        held = store.rows(kind, names, make, into=kind.empty(count))
        cache.HELD_BYTES = 0
        checked = store.rows(kind, names, make)
        (path,) = Path(folder).glob("*.bin")
        mapped = np.memmap(path, np.uint8, "r", shape=(count, *kind.shape))
        ways: dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]] = {
            "checked": checked.take,
            "held": held.take,
            "mapped": lambda numbers: np.asarray(mapped[numbers]),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            numbers = rng.integers(0, count, BATCH)
            assert np.array_equal(checked.take(numbers), held.take(numbers))
            for name in random.sample(list(ways), len(ways)):
                began = time.perf_counter()
                ways[name](numbers)
                found[name].append(1e6 * (time.perf_counter() - began) / BATCH)
    return found


def main() -> None:
    """Print one table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(
        f"{cores()} cores, n = {rounds} batches of {BATCH}, microseconds a row: median (quartiles)"
    )
    for side, count in SIZES.items():
        for name, all_ in measure(side, count, rounds).items():
            low, middle, high = statistics.quantiles(all_, n=4)
            print(f"3 x {side} x {side}  {name:8} {middle:8.1f} ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
