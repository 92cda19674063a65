"""Open one file as a zip or tar archive, by its content, and read its members one by one."""

import re
from collections.abc import Collection, Iterator
from typing import BinaryIO, Protocol

from core.imaging.formats import recognised, unread_image
from core.ingest import compression
from core.ingest.archive import Content, Limits, Member
from core.ingest.tars import Tar
from core.ingest.zips import Zip, has_zip_directory
from topwork.errors import ArchiveUnreadable

HEAD_BYTES = 512
WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml)", re.IGNORECASE)
PACKED = {b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive", b"Rar!\x1a\x07": "a RAR archive"}
FOREIGN = {
    **PACKED,
    b"%PDF": "a PDF document",
    b"version https://git-lfs": "a Git LFS pointer, and not the file (`git lfs pull` brings that)",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
}
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
READ = "only zip and tar, plain or with gzip, bzip2, xz or Zstandard, are read."


class Container(Protocol):
    """An archive that can be listed and then read in the order of its list."""

    damage: str | None  # Set while listing where the rest of the archive cannot be read.

    def members(self) -> Iterator[Member]:
        """Yield what the archive declares, reading as little as possible."""

    def contents(self, wanted: Collection[int]) -> Iterator[tuple[int, bytes | str]]:
        """Yield (position, bytes) of the wanted members, or (position, key of `REJECTED`)."""


def open_container(file: BinaryIO, limits: Limits) -> Container:
    """Return a reader for the archive in a seekable file, judged by its content.

    Raises:
        ArchiveUnreadable: It is no archive, or one that is not read here.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head.startswith(ZIP):
        return Zip(file, sniff, limits.max_archive_entries)
    if compression.recognised(head):
        if _inside(file).startswith(ZIP):
            message = "This is a zip that was compressed once more"
            raise ArchiveUnreadable(message, hint="Unpack it once, and send the zip.")
        return Tar(file, sniff, most=limits.max_expanded_bytes)
    if Tar.recognised(head):
        return Tar(file, sniff, most=None)
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            raise ArchiveUnreadable(f"This is {name}; {READ}")
    if WEB_PAGE.match(head):
        hint = "The download may have needed a login, or was over a quota. Look at it in a browser."
        raise ArchiveUnreadable("This is a web page, not an archive.", hint=hint)
    if has_zip_directory(file):  # A zip behind other bytes, as self-extracting ones are.
        return Zip(file, sniff, limits.max_archive_entries)
    raise ArchiveUnreadable


def _inside(file: BinaryIO) -> bytes:
    """Return the first bytes of what is compressed."""
    try:
        return compression.expanded(file).read(HEAD_BYTES)
    except compression.DAMAGE:
        return b""


def sniff(head: bytes) -> tuple[Content, str]:
    """Tell what kind of file begins with these bytes, and of an unread image what it is."""
    if recognised(head):
        return "image", ""
    if (words := unread_image(head)) is not None:
        return "unread", words
    nested = head.startswith((*ZIP, *PACKED)) or compression.recognised(head)
    return ("archive" if nested or head[257:262] == b"ustar" else "other"), ""
