"""Free space of a disk, and the errors of a full one."""

import errno
import os
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Return the disk space an unprivileged process may still use."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def is_full(error: BaseException) -> bool:
    """Tell whether a call failed because a disk, or the caller's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
