"""Files that a crash leaves old or new, never torn (write, fsync, rename, fsync of the folder)."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a reader or a crash sees the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    sync(part)
    part.replace(path)
    sync(path.parent)
