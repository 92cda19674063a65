"""Copies of files, hashed while they are made, and second names of files that lose their first.

`core.store.object_store` copies what is hashed or going to be used: what becomes of one of the two
files later leaves the other as it is.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from core.system.atomic_files import sha256

FICLONE = 0x40049409  # Of <linux/fs.h>: share blocks until either side is written to.
PIECE = 1 << 20
SERIOUS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # Anything else says that it cannot clone.


def copy(source: Path, target: Path) -> str:
    """Copy a file to a new one; return the SHA-256 of the copy."""
    with source.open("rb") as read:
        with target.open("xb") as written:
            if not _cloned(read, written):
                pieces = Hashed(pieces_of(read))
                written.writelines(pieces)
                return pieces.sha256()
        return sha256(target)


class Hashed:
    """Pieces of content that are hashed as they are taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._digest.update(piece)
            yield piece

    def sha256(self) -> str:
        """Return the SHA-256 of all that was taken."""
        return self._digest.hexdigest()


def link(source: Path, target: Path) -> None:
    """Give a file that nobody writes to any more another name, or copy it where that cannot be."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # Another file system, or one without hard links.
        shutil.copyfile(source, target)


def _cloned(source: IO[bytes], target: IO[bytes]) -> bool:
    try:
        fcntl.ioctl(target, FICLONE, source.fileno())
    except OSError as error:
        if error.errno in SERIOUS:
            raise
        return False
    return True


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield a file's content."""
    while piece := file.read(PIECE):
        yield piece
