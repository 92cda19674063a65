"""Shards: plain tars, addressed by byte, equal for equal input."""

import hashlib
import tarfile
from pathlib import Path

from core.ingest.shards import Address, ShardWriter


def write(folder: Path, images: list[bytes], **options: int) -> tuple[list[str], list[Address]]:
    writer = ShardWriter(folder, **options)
    addresses = [writer.add(hashlib.sha256(data).hexdigest(), "jpg", data) for data in images]
    writer.close()
    return writer.names, addresses


IMAGES = [bytes([number]) * size for number, size in enumerate((1, 511, 512, 513, 5000))]


def test_every_image_lies_at_its_address(tmp_path: Path) -> None:
    names, addresses = write(tmp_path / "shards", IMAGES, max_bytes=3000)
    assert len(names) == 3
    for data, address in zip(IMAGES, addresses, strict=True):
        shard = (tmp_path / "shards" / f"{names[address.shard]}.tar").read_bytes()
        assert shard[address.offset : address.offset + address.length] == data


def test_shards_are_tars_named_after_their_content(tmp_path: Path) -> None:
    names, _ = write(tmp_path / "shards", IMAGES, max_bytes=3000)
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == sorted(
        f"{name}.tar" for name in names
    )
    found = []
    for name in names:
        path = tmp_path / "shards" / f"{name}.tar"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
        with tarfile.open(path) as archive:
            for info in archive:
                file = archive.extractfile(info)
                assert file is not None
                data = file.read()
                assert info.name == f"{hashlib.sha256(data).hexdigest()}.jpg"
                assert (info.mtime, info.uid, info.uname, info.mode) == (0, 0, "", 0o644)
                found.append(data)
    assert found == IMAGES


def test_equal_images_make_equal_shards(tmp_path: Path) -> None:
    assert write(tmp_path / "one", IMAGES) == write(tmp_path / "two", IMAGES)


def test_no_image_makes_no_shard(tmp_path: Path) -> None:
    assert write(tmp_path / "shards", []) == ([], [])
    assert list((tmp_path / "shards").iterdir()) == []
