"""Atomic file writes: after a crash a file is old or new, never torn; and its hash.

The order is write, fsync, rename, fsync of the folder (as Postgres' commit 606e0f98).
"""

import hashlib
import os
from pathlib import Path

from core.system.failpoints import hit


def sync(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and the missing ones above it, for this user only and each on disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        sync(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a reader or a crash sees the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
    except OSError:
        part.unlink(missing_ok=True)  # A full disk leaves it empty.
        raise
    settle(part, path)


def settle(part: Path, path: Path) -> None:
    """Give a written file its final name so that a power cut leaves the old file or the new."""
    hit("durable.before_sync")
    sync(part)
    hit("durable.before_rename")
    part.replace(path)
    hit("durable.after_rename")
    sync(path.parent)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
