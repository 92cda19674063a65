"""Archives for tests: ordinary ones, and hostile ones no honest tool would write."""

import bz2
import gzip
import io
import lzma
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def picture(seed: int, kind: str = "PNG", size: int = 8) -> bytes:
    """A small image; every seed gives other bytes."""
    image = Image.new("RGB", (size, size), (seed % 251, seed * 7 % 241, seed * 13 % 239))
    corner = seed or 0xFFFFFF  # Black on black would be a blank picture.
    image.putpixel((0, 0), (corner >> 16 & 255, corner >> 8 & 255, corner & 255))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def folder(*names: str, count: int = 3, first: int = 0) -> dict[str, bytes]:
    """`count` different pictures under each folder name."""
    paths = [f"{name}/{number}.png" for name in names for number in range(count)]
    return {path: picture(first + seed) for seed, path in enumerate(paths)}


def zip_of(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as the standard library writes it; a name that ends with `/` is a folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tar_of(
    files: Mapping[str, bytes | tarfile.TarInfo], tar_format: int = tarfile.PAX_FORMAT
) -> bytes:
    """A plain tar; a TarInfo in place of bytes is written as it is, without content."""
    out = io.BytesIO()
    with tarfile.TarFile(fileobj=out, mode="w", format=tar_format) as archive:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                data.name = name
                archive.addfile(data)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def special(kind: bytes, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """A tar header of a link, pipe or device."""
    info = tarfile.TarInfo()
    info.type, info.linkname, info.mode = kind, target, mode
    return info


@dataclass
class Entry:
    """One member of a hand-made zip; what is None is told truthfully."""

    name: bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0x800
    size: int | None = None
    attributes: int = 0
    crc: int | None = None
    offset: int | None = None
    packed: bytes | None = None
    descriptor: bool = False
    extra: bytes = b""

    def body(self) -> bytes:
        if self.packed is not None:
            return self.packed
        if self.method != 8:
            return self.data
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(self.data) + deflate.flush()


def raw_zip(entries: list[Entry], *, zip64: bool = False) -> bytes:
    """A zip written byte by byte (APPNOTE.TXT 4.3)."""
    out, directory = bytearray(), bytearray()
    for entry in entries:
        body = entry.body()
        size = len(entry.data) if entry.size is None else entry.size
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        flags = entry.flags | (8 if entry.descriptor else 0)
        offset = len(out) if entry.offset is None else entry.offset
        told = (0, 0, 0) if entry.descriptor else (crc, len(body), size)
        name = (len(entry.name), 0)
        out += struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, entry.method, 0, 0, *told, *name)
        out += entry.name + body
        if entry.descriptor:
            out += struct.pack("<4s3I", b"PK\7\x08", crc, len(body), size)
        values = (len(body), size)
        extra = entry.extra
        if zip64:
            extra += struct.pack("<2H3Q", 1, 24, size, len(body), offset)
            values, offset = (0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF
        directory += struct.pack(
            "<4s6H3I5H2I",
            *(b"PK\1\2", 0x314, 20, flags, entry.method, 0, 0, crc, *values),
            *(len(entry.name), len(extra), 0, 0, 0, entry.attributes, offset),
        )
        directory += entry.name + extra
    start, count = len(out), min(len(entries), 0xFFFF)
    out += directory
    size, at = len(directory), start
    if zip64:
        end = len(out)
        total = len(entries)
        out += struct.pack(
            "<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, total, total, len(directory), start
        )
        out += struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
        count, size, at = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    return bytes(out + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, at, 0))


def unicode_path(raw: bytes, path: str, version: int = 1) -> bytes:
    """Info-ZIP's extra field with a name in UTF-8 (APPNOTE.TXT 4.6.9)."""
    body = struct.pack("<BI", version, zlib.crc32(raw)) + path.encode()
    return struct.pack("<2H", 0x7075, len(body)) + body


def legacy_zip(files: Mapping[str, bytes], encoding: str) -> bytes:
    """A zip that does not say how its names are encoded."""
    return raw_zip([Entry(name.encode(encoding), it, flags=0) for name, it in files.items()])


def honest(files: Mapping[str, bytes]) -> list[Entry]:
    """Ordinary members for `raw_zip`."""
    return [Entry(name.encode(), data) for name, data in files.items()]


def gzipped(data: bytes) -> bytes:
    """A gzip stream with no time in it."""
    return gzip.compress(data, mtime=0)


# By the last suffix of the file's name.
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzipped,
    "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": zstd.compress,
}
