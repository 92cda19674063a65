"""A disk of a few megabytes that can be filled to the last byte and freed again.

A process that was ordered to stop itself at a failpoint can be let go on once the disk is full.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.processes import descendants
from tests.waiting import wait_for

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
    """Mount a disk; where that is not allowed it skips, and fails where CI=true says who looks."""
    path.mkdir()
    options = f"size={mebibytes}m"
    made = subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["/usr/bin/umount", "--lazy", str(path)], check=True)


def integrity(database: Path) -> str:
    """Return what SQLite finds wrong with its file, `ok` if nothing."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def halted(pid: int, seconds: float = 60) -> list[int]:
    """Wait until a process, or one below it, has stopped itself; return which."""

    def stopped() -> list[int]:
        return [one for one in (pid, *descendants(pid)) if _state(one) == "T"]

    return wait_for(stopped, seconds)


def go_on(pids: list[int]) -> None:
    """Let stopped processes continue."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
