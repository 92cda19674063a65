"""Open one file as a zip or tar archive, by its content, and read its members one by one."""

from collections.abc import Collection, Iterator
from typing import BinaryIO, Protocol

from core.imaging.formats import recognised
from core.ingest.archive import Content, Limits, Member
from core.ingest.tars import Tar
from core.ingest.zips import Zip, has_zip_directory
from topwork.errors import ArchiveUnreadable

HEAD_BYTES = 512
FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"%PDF": "a PDF document",
}


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
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Zip(file, sniff, limits.max_archive_entries)
    if head.startswith(b"\x1f\x8b"):
        return Tar(file, sniff, most=limits.max_expanded_bytes)
    if Tar.recognised(head):
        return Tar(file, sniff, most=None)
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            raise ArchiveUnreadable(f"This is {name}; only zip, tar and tar.gz are read.")
    if has_zip_directory(file):  # A zip behind other bytes, as self-extracting ones are.
        return Zip(file, sniff, limits.max_archive_entries)
    raise ArchiveUnreadable


def sniff(head: bytes) -> Content:
    """Tell what kind of file begins with these bytes."""
    if recognised(head):
        return "image"
    magics = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", *FOREIGN)
    nested = head.startswith(tuple(magic for magic in magics if magic != b"%PDF"))
    return "archive" if nested or head[257:262] == b"ustar" else "other"
