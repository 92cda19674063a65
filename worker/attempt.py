"""The folder of one attempt, `runs/JOB/FENCE/`: made, continued from the last one, tidied up.

A frozen attempt that thaws can still write, but only into its own folder: the next attempt works
on hard links. That is safe because files in `checkpoint/` never change after their rename; what
has not got its final name yet is left behind, as its writer may still have it open.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

import structlog

from core.store.object_store import Storage, StorageUnavailable
from core.system import copies

KEPT = {
    "checkpoint",
    "earlier.jsonl",
    "error.json",
    "events.jsonl",
    "exception.json",
    "log.txt",
    "request.json",
}
OLDER = "older"  # The checkpoint of this host that one in storage outdates.
LOG_BYTES = 1024 * 1024
log = structlog.get_logger()


def prepare(folder: Path, newest: int = 0) -> int:
    """Make the folder of a new attempt with this host's last checkpoint, the log and the reports.

    A checkpoint of an attempt before `newest`, which left one elsewhere, becomes `older/`: as
    `checkpoint/` of the new attempt it would count as newer than that one.

    Returns the fence of the attempt that left the checkpoint here; 0 where there is none.
    """
    folder.mkdir(parents=True)
    fence = int(folder.name)
    earlier = sorted(
        (path for path in folder.parent.iterdir() if int(path.name) < fence),
        key=lambda path: int(path.name),
    )
    left = 0
    for path in reversed(earlier):
        if (path / "checkpoint").is_dir():
            link_tree(path / "checkpoint", folder / "checkpoint.tmp")
            left = int(path.name)
            (folder / "checkpoint.tmp").rename(folder / ("checkpoint" if left >= newest else OLDER))
            break
    if earlier:
        said = tail(earlier[-1] / "log.txt", LOG_BYTES // 2)
        (folder / "log.txt").write_bytes(said + f"{marker(fence)}\n".encode())
        told = [path / name for path in earlier for name in ("earlier.jsonl", "events.jsonl")]
        with (folder / "earlier.jsonl").open("wb") as file:
            for path in filter(Path.exists, told):
                file.write(path.read_bytes() + b"\n")  # The last line may be torn.
    for path in earlier:
        shutil.rmtree(path, ignore_errors=True)
    return left


def marker(fence: int) -> str:
    """Return the line that divides an attempt's log from those before it."""
    return f"--- attempt {fence} ---"


def shrink(folder: Path) -> None:
    """Keep of an attempt only what explains its end and what a retry goes on from."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Forget a job's attempts."""
    shutil.rmtree(folder.parent, ignore_errors=True)


def tail(path: Path, most: int) -> bytes:
    """Return the last `most` bytes of a file, from the start of a line; empty without a file."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - most)
            file.seek(start)
            data = file.read(most)
    except FileNotFoundError:
        return b""
    return data.partition(b"\n")[2] if start else data


class LogShipper:
    """Keeps `logs/JOB.txt` in storage equal to the end of an attempt's log."""

    def __init__(self, storage: Storage, job_id: str, folder: Path) -> None:
        self._storage, self._path = storage, folder / "log.txt"
        self._key = f"logs/{job_id}.txt"
        self._size, self._shipped_at = -1, float("-inf")

    def ship(self) -> None:
        """Store the last MiB of the log if it has grown; a storage that is away gets it later."""
        self._shipped_at = time.monotonic()
        size = self._path.stat().st_size if self._path.exists() else self._size
        if size == self._size:
            return
        try:
            self._storage.put_bytes(self._key, tail(self._path, LOG_BYTES))
            self._size = size
        except (StorageUnavailable, OSError) as error:
            log.warning("log.unshipped", error=str(error))

    def ship_every(self, seconds: float) -> None:
        """Ship if the last time was so long ago."""
        if time.monotonic() - self._shipped_at >= seconds:
            self.ship()


def link_tree(source: Path, target: Path) -> None:
    """Link every file of a folder, or copy it where a file system has no hard links.

    A file that vanishes meanwhile was being replaced.
    """
    target.mkdir()
    for path in sorted(source.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                link_tree(path, target / path.name)
            else:
                copies.link(path, target / path.name)
