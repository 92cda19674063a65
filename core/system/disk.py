"""Free space of a disk."""

import os
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Return the disk space an unprivileged process may still use."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize
