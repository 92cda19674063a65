"""Answers so far, in files of so many images each; a file that is there is complete.

They lie in the run's checkpoint, so the next attempt goes on behind the last whole part: an image
of a lost part is asked about again, and none has two answers.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.system.atomic_files import write_atomically
from core.system.failpoints import hit

PART = 256  # Images of a part: some seconds of work on two cores.
Row = dict[str, Any]


class Parts:
    """The parts of one batch.

    Args:
        checkpoint: The run's folder for them.
        identity: What the answers depend on; parts of another one are dropped.
        count: Images of the batch.
    """

    def __init__(self, checkpoint: Path, identity: str, count: int) -> None:
        for other in checkpoint.iterdir():
            if other.name != identity:
                shutil.rmtree(other)
        self._folder = checkpoint / identity
        self._folder.mkdir(exist_ok=True)
        self._count = count

    def missing(self) -> list[int]:
        """Return the numbers of the images without an answer."""
        starts = range(0, self._count, PART)
        left = [start for start in starts if not self._path(start).exists()]
        return [number for start in left for number in self._numbers(start)]

    def keep(self, rows: list[Row]) -> int:
        """Write the part that begins with these rows if all of it is there; return its length.

        0 means that there is more to come first.
        """
        start = rows[0]["index"]
        part = rows[: len(self._numbers(start))]
        if len(part) < len(self._numbers(start)):
            return 0
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in part)
        write_atomically(self._path(start), text.encode("utf-8", "replace"))
        hit("predict.after_part")
        return len(part)

    def rows(self) -> Iterator[Row]:
        """Yield every answer in the order of the images."""
        for start in range(0, self._count, PART):
            with self._path(start).open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)

    def join(self, path: Path) -> None:
        """Write all parts into one file."""
        with path.open("wb") as whole:
            for start in range(0, self._count, PART):
                with self._path(start).open("rb") as part:
                    shutil.copyfileobj(part, whole)

    def _numbers(self, start: int) -> range:
        return range(start, min(start + PART, self._count))

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:09d}.jsonl"
