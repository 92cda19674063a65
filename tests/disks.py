"""Disks with as much room as a test wants: what `os.statvfs` says of them."""

import os


def disk_with(free: int, files: int = 10**6, *, total: int = 10**13) -> os.statvfs_result:
    """A disk with so many free bytes and free inodes, of a million inodes in all."""
    blocks = (total, free, free)
    return os.statvfs_result((1, 1, *blocks, 10**6, files, files, 0, 255))


FULL = disk_with(0)
