"""Read images out of the shards of a staged folder, and work on them ahead of their use.

Nothing is used that was not hashed. Training and evaluation read through `StagedDataset`, batch
prediction through `models.prediction.images`.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from core.system.command_names import command, where
from topwork.errors import IntegrityError

DAMAGED = "damaged"  # The name of the mark.
AHEAD = 2  # Batches worked on in advance of the one in use.
Item = TypeVar("Item")
Made = TypeVar("Made")


class Located(Protocol):
    """Where the bytes of an image lie, and what they must be."""

    @property
    def sha256(self) -> str:
        """Of its bytes."""

    @property
    def path(self) -> str:
        """As uploaded, for messages."""

    @property
    def shard(self) -> str:
        """SHA-256 of the file that has it."""

    @property
    def offset(self) -> int:
        """First byte there."""

    @property
    def length(self) -> int:
        """Number of bytes."""


class Shards:
    """The open files `shards/NAME.tar` of a staged folder.

    Args:
        folder: Several runs may share it, and its shards may lie elsewhere.
        names: SHA-256 of each shard.

    Raises:
        IntegrityError: One is not there; the folder is then marked, to be made again.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}
        for name in sorted(names):
            try:
                self._handles[name] = os.open(folder / "shards" / f"{name}.tar", os.O_RDONLY)
            except FileNotFoundError:
                self.close()
                raise damaged(folder, f"shards/{name}.tar") from None

    def read(self, image: Located) -> bytes:
        """Return the original bytes of one image.

        Raises:
            IntegrityError: They are not as recorded; the folder is then marked.
        """
        data = os.pread(self._handles[image.shard], image.length, image.offset)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise damaged(self._folder, image.path)
        return data

    def close(self) -> None:
        """Close the files."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()


def damaged(folder: Path, name: str) -> IntegrityError:
    """Return the error, and mark this copy so that no later run uses it."""
    with suppress(OSError):
        (folder / DAMAGED).touch()
    deep = f"{command('doctor', '--deep')} {where()}"
    hint = f"Run {deep} to see what is damaged; if nothing is, run the job again."
    return IntegrityError(f"{name} does not match its recorded hash.", hint=hint)


def ahead(
    items: Sequence[Item], make: Callable[[Item], Made], *, batch: int, threads: int
) -> Iterator[list[Made]]:
    """Yield `make(item)` of `batch` items at a time, in order, made in threads ahead of their use.

    What `make` raises is raised where its batch would have come.
    """
    waiting: deque[list[Future[Made]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for start in range(0, len(items), batch):
                waiting.append([pool.submit(make, item) for item in items[start : start + batch]])
                if len(waiting) > AHEAD:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
