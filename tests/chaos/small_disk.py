"""A disk of a few megabytes that can be filled to the last byte and freed again."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MEBIBYTE = 1024 * 1024


class SmallDisk:
    """A mounted tmpfs; `full()` holds it full for as long as its context is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @contextlib.contextmanager
    def full(self, leave: int = 0) -> Iterator[None]:
        """Fill what is free but for some bytes."""
        with self._ballast.open("wb") as file, contextlib.suppress(OSError):
            stat = os.statvfs(self.path)
            os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize - leave)
        self.top_up(leave)
        try:
            yield
        finally:
            self._ballast.unlink()

    def top_up(self, leave: int = 0) -> None:
        """Take what has become free since."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while (stat := os.statvfs(self.path)).f_bavail * stat.f_frsize - leave >= stat.f_frsize:
                file.write(bytes(stat.f_frsize))


@contextlib.contextmanager
def mounted(path: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount a disk; skips where that is not allowed."""
    path.mkdir()
    options = f"size={mebibytes}m"
    made = subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["/usr/bin/umount", "--lazy", str(path)], check=True)
