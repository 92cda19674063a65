"""A folder as a tar that is never stored."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from topwork.client.folder_tar import FolderTar
from topwork.errors import FolderChanged, FolderUnusable


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize("chunk", [1, 7, 512, 1000, 100_000])
def test_a_folder_reads_as_a_tar_of_its_regular_files(folder: Path, chunk: int) -> None:
    tar = FolderTar(folder)
    data = b"".join(iter(lambda: tar.read(chunk), b""))
    assert len(data) == tar.length == tar.seek(0, os.SEEK_END)
    assert members(data) == {
        "cat/a.png": b"a" * 512,
        "dog/" + "long" * 40 + ".png": b"b" * 1300,
        "dog/empty.png": b"",
        "dog/größe.png": b"c",
    }
    tar.seek(0)
    assert tar.read() + b"".join(iter(lambda: tar.read(chunk), b"")) == data


def test_a_file_that_shrinks_while_it_is_sent_is_named(folder: Path) -> None:
    tar = FolderTar(folder)
    (folder / "cat/a.png").write_bytes(b"")
    with pytest.raises(FolderChanged, match=r"a\.png"):
        list(iter(lambda: tar.read(512), b""))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable):
        FolderTar(tmp_path)
