"""A folder of images as one tar file that is written while it is sent."""

import io
import os
import tarfile
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from topwork.errors import FolderChanged, FolderUnusable

BLOCK = tarfile.BLOCKSIZE


class FolderTar(io.RawIOBase):
    """The bytes of an uncompressed tar of a folder's files; nothing is stored.

    The length is known beforehand and the position can be set back, so a client can announce it
    and repeat a request. Names are relative to the folder. Links are followed, as `zip` and
    torchvision follow them. What cannot be sent goes by name, so that the service reports it: links
    that lead nowhere or in a circle, special files, empty folders.

    Args:
        folder: Root of the tree.
        on_read: Called with the number of bytes handed out so far.

    Raises:
        FolderUnusable: The folder holds no files, or some folder in it cannot be read.
    """

    def __init__(
        self, folder: Path, on_read: Callable[[int], None] = lambda _position: None
    ) -> None:
        super().__init__()
        self._on_read = on_read
        self._members: list[tuple[bytes, Path, int]] = []
        self._starts = [0]
        self._position = 0
        found = dict(_walk(folder))
        for path in sorted(found):
            self._add(path, path.relative_to(folder).as_posix(), found[path])
        if tarfile.REGTYPE not in found.values():
            raise FolderUnusable(f"There are no files in {folder}.")
        self.length = self._starts[-1] + 2 * BLOCK

    def _add(self, path: Path, name: str, kind: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.size = path.stat().st_size if kind == tarfile.REGTYPE else 0
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        self._members.append((header, path, info.size))
        self._starts.append(self._starts[-1] + len(header) + -(-info.size // BLOCK) * BLOCK)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.length}[whence]
        self._position = origin + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, ending at the latest where a member ends."""
        left = self.length - self._position
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        index = bisect_right(self._starts, self._position) - 1
        if index < len(self._members):
            data = self._member(index, self._position - self._starts[index], size)
        else:
            data = bytes(size)
        self._position += len(data)
        self._on_read(self._position)
        return data

    def _member(self, index: int, offset: int, size: int) -> bytes:
        header, path, length = self._members[index]
        if offset < len(header):
            return header[offset : offset + size]
        offset -= len(header)
        if offset >= length:
            return bytes(min(size, self._starts[index + 1] - self._position))
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(min(size, length - offset))
        if not data:
            raise FolderChanged(f"{path} became shorter while it was being sent.")
        return data


def _walk(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield (path, type of tar member) of all that lies below a folder, in any order."""
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            found = folder.stat()
            around = above | {(found.st_dev, found.st_ino)}  # A link to any of these is a circle.
            paths = list(folder.iterdir())
            if above and not paths:
                yield folder, tarfile.DIRTYPE
            for path in paths:
                if path.is_file():
                    yield path, tarfile.REGTYPE
                elif path.is_dir() and not _is_one_of(path, around):
                    waiting.append((path, around))
                else:
                    yield path, tarfile.SYMTYPE if path.is_symlink() else tarfile.FIFOTYPE
        except OSError as error:
            raise FolderUnusable(f"{folder} cannot be read: {error.strerror}.") from error


def _is_one_of(folder: Path, known: Collection[tuple[int, int]]) -> bool:
    found = folder.stat()
    return (found.st_dev, found.st_ino) in known
