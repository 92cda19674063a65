"""Files that a crash leaves old or new, never torn, and the hash that says which they are.

The order is write, fsync, rename, fsync of the folder (as Postgres' commit 606e0f98).
"""

import hashlib
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


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
