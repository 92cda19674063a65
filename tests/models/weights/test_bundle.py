"""Zip files of models: ours, those that people pack, and those that strangers make."""

import io
import struct
import zipfile
from pathlib import Path

import pytest

from models.weights import bundle
from topwork.errors import BundleInvalid

CARD, WEIGHTS = b'{"format": 1}', bytes(range(256)) * 300


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    weights = tmp_path / "weights"
    weights.write_bytes(WEIGHTS)
    bundle.pack(tmp_path / "model.zip", CARD, weights)
    return tmp_path / "model.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "out"
    place.mkdir()
    return place


def zipped(members: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of the two files and of others."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        whole = {"card.json": CARD, "weights.safetensors": WEIGHTS, **(members or {})}
        for name, data in whole.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_what_is_packed_is_unpacked(packed: Path, folder: Path) -> None:
    bundle.unpack(packed, folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == {"card.json": CARD, "weights.safetensors": WEIGHTS}


def test_the_same_model_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    bundle.pack(tmp_path / "again.zip", CARD, tmp_path / "weights")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_people_compress_and_add_what_they_like(tmp_path: Path, folder: Path) -> None:
    """Beside the two files nothing is written, whatever its name is."""
    path = tmp_path / "own.zip"
    path.write_bytes(zipped({"history.json": b"{}", "../evil": b"x"}, zipfile.ZIP_DEFLATED))
    bundle.unpack(path, folder)
    assert sorted(it.name for it in folder.iterdir()) == ["card.json", "weights.safetensors"]
    assert not (tmp_path / "evil").exists()


def test_strangers_are_refused(tmp_path: Path, folder: Path) -> None:
    whole = zipped()
    flipped = bytearray(whole)
    flipped[whole.index(WEIGHTS[:64]) + 40_000] ^= 1
    comment = bytearray(zipped())
    comment[-2:] = struct.pack("<H", 3)
    zip64 = whole[:-22] + bundle.ZIP64_MAGIC + bytes(16) + whole[-22:]
    many = {f"{number}": b"" for number in range(200)}
    cases = {
        "empty": b"",
        "words": b"this is no archive at all, and longer than a record",
        "cut off": whole[:-30],
        "no list": whole[:2000] + whole[-22:],
        "damaged": bytes(flipped),
        "a comment": bytes(comment) + b"abc",
        "zip64": zip64,
        "many": zipped(many),
        "a bomb": zipped({"weights.safetensors": bytes(64_000_000)}, zipfile.ZIP_DEFLATED),
        "lzma": zipped(method=zipfile.ZIP_LZMA),
        "in a folder": whole.replace(b"card.json", b"c/rd.json"),
    }
    for name, content in cases.items():
        path = tmp_path / "strange.zip"
        path.write_bytes(content)
        with pytest.raises(BundleInvalid):
            bundle.unpack(path, folder)
        for left in folder.iterdir():
            left.unlink()
        assert name
