"""The bytes of resumable uploads: one file each, whose size is the offset.

A piece is on disk before it is acknowledged. A piece that breaks off keeps what has arrived,
unless it announced a checksum: then it counts whole or not at all, and a mark beside the file says
from where on its bytes are unproved, so that not even a killed process leaves some of them behind.
A lock on the file lets one request at a time write; the kernel takes it from a process that dies.
"""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.system.atomic_files import sync, write_atomically
from core.system.failpoints import hit
from core.system.locks import take
from core.system.settings import Settings
from topwork.errors import UploadLocked, UploadNotFound

FOLDER = "uploads"
MARK = ".unproved"
LIVELY_SECONDS = 300.0
NEW_SECONDS = 600.0  # A file may be there before the commit of its row.


def path_of(settings: Settings, upload_id: str) -> Path:
    """Return where an upload's bytes are."""
    return settings.data_dir / FOLDER / upload_id


def begin(path: Path) -> None:
    """Make the empty file of a new upload, so that a power cut does not lose it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    sync(path.parent)


class Piece:
    """A file held for one request.

    Args:
        path: The upload's file.
        handle: Its descriptor, locked.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle
        self._mark = path.with_name(path.name + MARK)
        with suppress(FileNotFoundError):  # Left by a process that was killed.
            self._rewind(int(self._mark.read_text()))
        self.offset = os.fstat(handle).st_size

    def announce_checksum(self) -> None:
        """Say that what is written from here on does not count until `prove`."""
        write_atomically(self._mark, str(self.offset).encode())

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._handle, view, self.offset)
            self.offset += written
            view = view[written:]
        hit("upload.written")

    def keep(self) -> None:
        """Bring what was written to disk; it counts from here on."""
        os.fsync(self._handle)
        self._mark.unlink(missing_ok=True)
        hit("upload.synced")

    def drop(self) -> None:
        """Forget what was written since the checksum was announced."""
        self._rewind(int(self._mark.read_text()))
        self.offset = os.fstat(self._handle).st_size

    def _rewind(self, offset: int) -> None:
        os.ftruncate(self._handle, offset)
        os.fsync(self._handle)
        self._mark.unlink()


def size(settings: Settings, upload_id: str) -> int:
    """Return how many bytes are there, proved or not; 0 without a file."""
    with suppress(FileNotFoundError):
        return path_of(settings, upload_id).stat().st_size
    return 0


@contextmanager
def held(path: Path) -> Iterator[Piece]:
    """Hold an upload's file for reading its offset or appending to it.

    Raises:
        UploadNotFound: It has no file on this machine.
        UploadLocked: Another request holds it.
    """
    try:
        handle = take(path)
    except FileNotFoundError:
        raise UploadNotFound(f"there is no upload {path.name}") from None
    except BlockingIOError:
        raise UploadLocked from None
    try:
        yield Piece(path, handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Forget an upload's bytes; nothing happens where there are none."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + MARK).unlink(missing_ok=True)


def remove_strays(settings: Settings, known: Collection[str]) -> int:
    """Remove files of uploads that no row knows; return how many."""
    removed = 0
    for path in (settings.data_dir / FOLDER).glob("*"):
        with suppress(OSError):  # Another process was faster.
            old = time.time() - path.stat().st_mtime > NEW_SECONDS
            if old and path.name.removeprefix(".").partition(".")[0] not in known:
                path.unlink()
                removed += 1
    return removed


def outstanding(settings: Settings, lengths: dict[str, int]) -> int:
    """Return how many bytes of the uploads that have lately begun or grown have yet to arrive.

    One that stands still reserves nothing: who announces much and sends little would otherwise
    keep everybody else out for a day.
    """
    since, coming = time.time() - LIVELY_SECONDS, 0
    for upload_id, length in lengths.items():
        with suppress(FileNotFoundError):
            there = path_of(settings, upload_id).stat()
            coming += length - there.st_size if there.st_mtime > since else 0
    return coming
