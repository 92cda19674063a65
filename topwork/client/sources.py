"""Sources of uploads: a folder as a tar written while it is sent, or an archive as it is."""

import hashlib
import io
import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from topwork.client.folder_tar import FolderTar
from topwork.errors import FolderChanged, FolderUnusable

LARGE = 16 * 1024 * 1024  # More is sent in pieces.
PIECE = 8 * 1024 * 1024

OnBytes = Callable[[int, int], None]


def ignore(_sent: int, _total: int) -> None:
    """Let nobody know how far an upload is."""


def opened(path: Path, on_bytes: OnBytes) -> tuple[str, BinaryIO]:
    """Open a folder or a file for sending; return the name it is sent with, too.

    Raises:
        FolderUnusable: There is nothing to send.
    """
    if path.is_dir():
        tar = FolderTar(path, lambda sent: on_bytes(sent, tar.length))
        return f"{path.resolve().name or 'folder'}.tar", cast("BinaryIO", tar)
    if not path.is_file():
        raise FolderUnusable(f"There is no {path}.")
    total = path.stat().st_size
    return path.name, _Counted(path.open("rb"), lambda sent: on_bytes(sent, total))


class _Counted(io.BufferedReader):
    """A file that says how far it has been read."""

    def __init__(self, file: BinaryIO, on_read: Callable[[int], None]) -> None:
        super().__init__(file)  # type: ignore[arg-type] # A buffered file reads as a raw one does.
        self._on_read = on_read

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._on_read(self.tell())
        return data


def size_of(file: BinaryIO) -> int:
    """Return the bytes of a file, and set it to its beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def is_large(file: BinaryIO) -> bool:
    """Return whether a file is worth more than one request."""
    return size_of(file) > LARGE


def announcement(file: BinaryIO, name: str) -> dict[str, str]:
    """Return the headers that announce a file which will come in pieces."""
    encoded = b64encode(name.encode("utf-8", "replace")).decode()
    return {"Upload-Length": str(size_of(file)), "Upload-Metadata": f"filename {encoded}"}


def piece_of(file: BinaryIO, offset: int) -> tuple[bytes, dict[str, str]]:
    """Return the next bytes of a file, and the headers of the request that carries them.

    Raises:
        FolderChanged: There are none.
    """
    file.seek(offset)
    data = bytearray()
    while len(data) < PIECE and (part := file.read(PIECE - len(data))):
        data += part
    if not data:
        raise FolderChanged("The file became shorter while it was being sent.")
    digest = b64encode(hashlib.sha256(data).digest()).decode()
    headers = {
        "Upload-Offset": str(offset),
        "Upload-Checksum": f"sha256 {digest}",
        "Content-Type": "application/offset+octet-stream",
    }
    return bytes(data), headers
