"""Arrays computed once, in files mapped into memory.

Arrays larger than memory work, and a run resumed on the same machine goes on where it was. The
kernel keeps written pages when a process is killed but not when the machine is, hence the boot id
beside each file instead of a sync of gigabytes.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from core.durable import write_atomically
from core.errors import DiskFull
from core.rundir import RunDir
from models.training.checkpoint import free_bytes

MARK_SECONDS = 2.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def filled(
    run: RunDir,
    name: str,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    parts: Callable[[int], Iterator[NDArray[Any]]],
) -> NDArray[Any]:
    """Return the array of this name, computing the rows that are not there yet.

    Args:
        run: Its `cache` folder holds the file; a wish to stop is heard between parts.
        name: Says what the rows are; the same name and shape mean the same rows.
        shape: Rows first.
        dtype: Of the numbers.
        parts: Given the number of rows that are done, yields the following rows in order.

    Raises:
        DiskFull: The array does not fit.
    """
    folder = run.path / "cache"
    folder.mkdir(exist_ok=True)
    file, mark = folder / f"{name}.bin", folder / f"{name}.json"
    key = {"shape": list(shape), "dtype": np.dtype(dtype).name, "boot": _boot()}
    done = _done(mark, key) if file.exists() else 0
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not done and size > free_bytes(folder):
        raise DiskFull(f"Decoding this dataset needs {size / 1e9:.1f} GB of disk space.")
    array: NDArray[Any] = np.memmap(file, dtype, "r+" if done else "w+", shape=shape)
    marked = time.monotonic()
    for part in parts(done):
        array[done : done + len(part)] = part
        done += len(part)
        now = time.monotonic()
        if now - marked > MARK_SECONDS or done == shape[0] or run.stopping:
            write_atomically(mark, json.dumps({**key, "done": done}).encode())
            marked = now
        run.events.alive()
        run.check_stop()
    return array


def _boot() -> str:
    """Return what changes when the machine starts; where nobody says, no two calls agree."""
    return _BOOT.read_text().strip() if _BOOT.exists() else uuid4().hex


def _done(mark: Path, key: Mapping[str, object]) -> int:
    if not mark.exists():
        return 0
    state = json.loads(mark.read_text("utf-8"))
    done: int = state.pop("done")
    return done if state == key else 0
