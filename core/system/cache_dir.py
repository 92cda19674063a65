"""A cache folder with a size limit: files used longest ago make room for others (LRU).

Whoever uses a file holds a lock on it, which its death releases. A file in use stays, as
unlinking it would free no space.
"""

from pathlib import Path

from core.system.locks import remove_unused


def trim(folder: Path, most: int) -> int:
    """Remove unused files, the least recently used first, until at most `most` bytes are left.

    Returns:
        The bytes that are left, which can be more when files are in use.
    """
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.append((stat.st_mtime_ns, stat.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            break
        if remove_unused(path):
            total -= size
    return total
