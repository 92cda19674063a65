"""Uploads: one archive, or many files written into one tar as they arrive, straight to the disk.

File names of a form become member names of that tar and nothing else; the ingestion judges them
like those of any archive.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import anyio.to_thread

from app.api.uploads import partial_file
from app.asgi.multipart import FILE, receive
from app.asgi.request_body import StrictRequest
from core.ingest.archive import ARCHIVE_SUFFIXES
from core.store.db import is_unsure
from core.store.object_store import Storage
from core.system import disk
from core.system.ids import new_id
from core.system.locks import hold, take
from core.system.settings import MEBIBYTE, Settings
from topwork.errors import ArchiveTooLarge, MalformedRequest, RequestTooLarge

ARCHIVE_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b")
TAR_MARK = slice(257, 262)  # Where a POSIX tar says `ustar`.
CHECK_EVERY = 64 * MEBIBYTE
MAX_FIELDS = 32
PREFIX = "upload-"
FieldReader = Callable[[str, str], Any]
UNLOCKED_SECONDS = 60.0  # Far more than a new folder is there before it is locked.


@dataclass
class Upload:
    """What a form carried: its small fields, and its files as one archive on this disk."""

    path: Path
    fields: dict[str, Any] = field(default_factory=dict)
    filename: str | None = None  # Of the archive, where one was sent as it is.
    sha256: str | None = None  # The same: what else becomes an archive is never hashed as a whole.
    roots: set[str] = field(default_factory=set)  # First folders of many files' paths.
    files: int = 0
    fingerprint: str = ""
    partial: str | None = None  # Id, where it came in pieces; then it lies there until it is used.


@dataclass
class Stored:
    """An upload in object storage; it is forgotten again unless a row was made for it.

    Where `spent`, the row of what came in pieces is gone, whatever became of the object.
    """

    upload: Upload
    key: str
    size: int
    kept: bool = False
    spent: bool = False


@asynccontextmanager
async def stored(storage: Storage, upload: Upload | None) -> AsyncIterator[Stored | None]:
    """Put an upload into object storage for as long as it takes to commit its row, or for good.

    Where nobody knows whether the row was committed the object stays: if no row refers to it,
    garbage collection removes it a day later. What came in pieces goes from this disk once it is
    spent. Nothing is yielded for an upload that is not there.
    """
    if upload is None:
        yield None
        return
    handle = Stored(upload, f"uploads/{new_id('up')}", upload.path.stat().st_size)
    put = False
    try:
        await anyio.to_thread.run_sync(storage.put_file, handle.key, upload.path)
        put = True
        yield handle
    except BaseException as error:
        handle.kept = handle.kept and is_unsure(error)
        raise
    else:
        if handle.spent:
            await anyio.to_thread.run_sync(partial_file.remove, upload.path)
    finally:
        if put and not handle.kept:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(storage.delete, handle.key)


@asynccontextmanager
async def uploaded(
    request: StrictRequest,
    settings: Settings,
    read_field: FieldReader,
) -> AsyncIterator[Upload]:
    """Receive a form into the data folder; nothing of it is left there afterwards.

    Args:
        request: The request, its body unread.
        settings: Limits and the folder.
        read_field: Called with name and text of each field, returns what is kept of it; what it
            raises ends the upload before the files behind it.

    Raises:
        ArchiveTooLarge: Above `max_archive_bytes`, or more files than `max_upload_files`.
        DiskFull: Too little would stay free.
    """
    folder, lock = await anyio.to_thread.run_sync(_folder, settings)
    try:
        coming = int(request.headers.get("content-length") or 0)
        disk.require(folder, coming, settings.disk_reserve_bytes)
        sink = UploadSink(folder / "archive", settings, read_field)
        try:
            limit = settings.max_archive_bytes
            parts = settings.max_upload_files + MAX_FIELDS + 1
            parsers = request.app.state.service.parsers
            await receive(
                request,
                sink,
                limit=limit,
                parts=parts,
                too_large=ArchiveTooLarge,
                parsers=parsers,
            )
            yield await anyio.to_thread.run_sync(sink.finish)
        finally:
            sink.close()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_remove, folder, lock)


def _folder(settings: Settings) -> tuple[Path, int]:
    """Make a folder and lock it; the kernel lets go of the lock however this process ends."""
    parent = settings.data_dir / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    return folder, take(folder, shared=True)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def remove_abandoned(settings: Settings) -> int:
    """Remove what processes that were killed have left of their uploads; return how many."""
    removed = 0
    for folder in (settings.data_dir / "tmp").glob(f"{PREFIX}*"):
        with suppress(OSError):  # Its owner holds it, or has removed it.
            if time.time() - folder.stat().st_mtime > UNLOCKED_SECONDS:
                with hold(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
    return removed


class UploadSink:
    """Writes the form's files to one archive and keeps its fields.

    Args:
        path: The archive to write.
        settings: Limits.
        read_field: Returns what is kept of a text field.
    """

    def __init__(self, path: Path, settings: Settings, read_field: FieldReader) -> None:
        self.upload = Upload(path)
        self.read_field = read_field
        self._settings = settings
        self._file: BinaryIO = path.open("wb")
        self._digest = hashlib.sha256()  # Of names, and of the digests of contents.
        self._content = hashlib.sha256()
        self._part: _Field | _File | _Raw | _Member | None = None
        self._unchecked = 0

    def begin(self, name: str, filename: str | None) -> None:
        """Start a part."""
        self._digest.update(f"{name}\0{filename}\0".encode("utf-8", "surrogateescape"))
        self._content = hashlib.sha256()
        if name == FILE and filename is None:
            filename = "archive"
        if filename is None:
            if len(self.upload.fields) >= MAX_FIELDS:
                raise MalformedRequest(f"the form has more than {MAX_FIELDS} fields")
            self._part = _Field(self, name, self._settings.max_request_bytes)
        elif filename == "":
            self._part = None  # An empty file input of a browser.
        else:
            self._begin_file(filename)

    def _begin_file(self, filename: str) -> None:
        self.upload.files += 1
        if self.upload.filename is not None:
            self._enclose_archive(self.upload.filename)
        if self.upload.files > self._settings.max_upload_files:
            most = self._settings.max_upload_files
            raise ArchiveTooLarge(f"the form has more than {most} files; send one archive instead")
        self._part = _File(self, filename)

    def write(self, data: bytes) -> None:
        """Take the next piece of the part."""
        self._content.update(data)
        self._unchecked += len(data)
        if self._unchecked > CHECK_EVERY:
            self._unchecked = 0
            disk.require(self.upload.path.parent, 0, self._settings.disk_reserve_bytes)
        if isinstance(self._part, _File):
            self._part = self._part.decided(data) or self._part
        elif self._part is not None:
            self._part.write(data)

    def end(self) -> None:
        """Finish the part."""
        if isinstance(self._part, _File):
            self._part = self._part.decided(b"", complete=True)
        if isinstance(self._part, _Raw):
            self.upload.sha256 = self._content.hexdigest()
        if self._part is not None:
            self._part.end()
        self._part = None
        self._digest.update(self._content.digest())

    def open_file(self, name: str, start: bytes) -> "_Raw | _Member":
        """Decide by its first bytes whether a file is the archive or goes into one."""
        named = self.upload.files == 1 and name.lower().endswith(ARCHIVE_SUFFIXES)
        archive = named or start.startswith(ARCHIVE_STARTS) or start[TAR_MARK] == b"ustar"
        if archive and self.upload.files == 1:
            self.upload.filename = name
            return _Raw(self._file, start)
        if name.count("/") > 1:  # root/class/image: the root may name the whole.
            self.upload.roots.add(name.partition("/")[0])
        return _Member(self._file, name, start)

    def _enclose_archive(self, name: str) -> None:
        """Make the archive that came first a member like any other: ingestion reports it."""
        self._file.close()
        alone = self.upload.path.with_name("first")
        self.upload.path.rename(alone)
        self._file = self.upload.path.open("wb")
        member = _Member(self._file, name, b"")
        with alone.open("rb") as file:
            shutil.copyfileobj(file, self._file)
        member.end()
        alone.unlink()
        self.upload.filename = self.upload.sha256 = None

    def finish(self) -> Upload:
        """Complete the archive and return what came."""
        if self.upload.files == 0:
            hint = "Name the part `file`: one .zip, .tar or .tar.gz, or many images."
            raise MalformedRequest("the form carries no file", param="file", hint=hint)
        if self.upload.filename is None:
            self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.close()
        self.upload.fingerprint = self._digest.hexdigest()
        return self.upload

    def close(self) -> None:
        """Close the archive whatever happened."""
        self._file.close()


class _Field:
    """A small text field."""

    def __init__(self, sink: UploadSink, name: str, limit: int) -> None:
        self._sink, self._name, self._limit = sink, name, limit
        self._value = bytearray()

    def write(self, data: bytes) -> None:
        self._value += data
        if len(self._value) > self._limit:
            message = f"the field is larger than {self._limit} bytes"
            raise RequestTooLarge(message, param=self._name)

    def end(self) -> None:
        fields = self._sink.upload.fields
        if self._name in fields:
            raise MalformedRequest("the form has this field twice", param=self._name)
        try:
            text = self._value.decode()
        except UnicodeDecodeError:
            raise MalformedRequest("the field is not UTF-8", param=self._name) from None
        fields[self._name] = self._sink.read_field(self._name, text)


class _File:
    """A file of which too little has come to know what it is."""

    def __init__(self, sink: UploadSink, name: str) -> None:
        self._sink, self._name = sink, name
        self._start = bytearray()

    def decided(self, data: bytes, *, complete: bool = False) -> "_Raw | _Member | None":
        self._start += data
        if not complete and len(self._start) < tarfile.BLOCKSIZE:
            return None
        return self._sink.open_file(self._name, bytes(self._start))


class _Raw:
    """An archive that is kept as it came."""

    def __init__(self, file: BinaryIO, start: bytes) -> None:
        self.write = file.write
        self.write(start)

    def end(self) -> None:
        pass


class _Member:
    """A file that becomes a tar member; its size is known only at its end."""

    def __init__(self, file: BinaryIO, name: str, start: bytes) -> None:
        self._name = name
        self._file = file
        self._start = file.tell()
        self._file.write(self._header(0))
        self.write = file.write
        self.write(start)

    def end(self) -> None:
        end = self._file.tell()
        size = end - self._start - len(self._header(0))
        self._file.seek(self._start)
        self._file.write(self._header(size))
        self._file.seek(end)
        self._file.write(bytes(-size % tarfile.BLOCKSIZE))

    def _header(self, size: int) -> bytes:
        info = tarfile.TarInfo(self._name)
        info.size = size
        if "\0" in self._name:  # The short field would end there, under another file's name.
            info.pax_headers = {"path": self._name}
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
