"""Room on a disk, in bytes and in files, and the errors of a full one."""

import errno
import os
from pathlib import Path

from topwork.errors import DiskFull

MEGABYTE = 10**6
RESERVE_SHARE = 0.05  # Of a disk: no reserve is larger, so that small disks can be used.
FILES_RESERVE = 1000  # Inodes, of disks that have a number of them.


def lacking(folder: Path, size: int, reserve: int, what: str = "disk") -> str | None:
    """Return in words what a disk lacks for `size` more bytes; None where they find room.

    Args:
        folder: On the disk.
        size: Bytes that are to come.
        reserve: Bytes that stay free beside them, at most a twentieth of the disk.
        what: The disk, in words.
    """
    stat = os.statvfs(folder)
    free, total = stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize
    needed = size + min(reserve, int(RESERVE_SHARE * total))
    if free < needed:
        short, has = (f"{number / MEGABYTE:.0f} MB" for number in (needed, free))
        return f"{short} of free {what}, and {has} are free"
    files = min(FILES_RESERVE, int(RESERVE_SHARE * stat.f_files))
    if stat.f_favail < files:
        return f"{files} free inodes of the {what}, and {stat.f_favail} are free"
    return None


def require(folder: Path, size: int, reserve: int) -> None:
    """Raise DiskFull where `lacking` has something to say."""
    if missing := lacking(folder, size, reserve):
        raise DiskFull(f"this needs {missing}")


def free_bytes(folder: Path) -> int:
    """Return the disk space an unprivileged process may still use."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def is_full(error: BaseException) -> bool:
    """Tell whether a call failed because a disk, or the caller's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
