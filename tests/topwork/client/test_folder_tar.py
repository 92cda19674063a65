"""A folder as a tar that is never stored."""

import io
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from topwork.client.folder_tar import FolderTar
from topwork.errors import FolderChanged, FolderUnusable


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = [one for one in archive if one.isreg()]
        return {one.name: archive.extractfile(one).read() for one in files}


@pytest.mark.parametrize("chunk", [1, 7, 512, 1000, 100_000])
def test_a_folder_reads_as_a_tar_of_its_files(folder: Path, chunk: int) -> None:
    tar = FolderTar(folder)
    data = b"".join(iter(lambda: tar.read(chunk), b""))
    assert len(data) == tar.length == tar.seek(0, os.SEEK_END)
    assert members(data) == {
        "cat/a.png": b"a" * 512,
        "cat/link.png": b"outside",
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


def kinds(folder: Path) -> dict[str, bytes]:
    data = FolderTar(folder).readall()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: one.type for one in archive}


def test_links_to_folders_and_files_are_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "owl" / "young").mkdir(parents=True)
    (elsewhere / "owl" / "1.png").write_bytes(b"owl")
    (elsewhere / "owl" / "young" / "2.png").write_bytes(b"young")
    (folder / "owl").symlink_to(elsewhere / "owl")
    (folder / "hen").symlink_to("cat")
    (folder / "cat" / "b.png").symlink_to(elsewhere / "owl" / "1.png")
    sent = members(FolderTar(folder).readall())
    assert sent["owl/1.png"] == sent["cat/b.png"] == sent["hen/b.png"] == b"owl"
    assert sent["owl/young/2.png"] == b"young"
    assert sent["hen/a.png"] == sent["cat/a.png"]
    (tmp_path / "root").symlink_to(folder)
    assert members(FolderTar(tmp_path / "root").readall()) == sent


def test_circles_end_and_what_is_not_sent_goes_by_name(folder: Path, tmp_path: Path) -> None:
    (folder / "cat" / "up").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "cat" / "dog").symlink_to("../dog")
    (folder / "dog" / "cat").symlink_to("../cat")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe")
    sent = kinds(folder)
    assert {name: kind for name, kind in sent.items() if kind != tarfile.REGTYPE} == {
        "cat/up": tarfile.SYMTYPE,
        "cat/dog/cat": tarfile.SYMTYPE,
        "dog/cat/up": tarfile.SYMTYPE,
        "dog/cat/dog": tarfile.SYMTYPE,
        "self": tarfile.SYMTYPE,
        "gone": tarfile.SYMTYPE,
        "empty": tarfile.DIRTYPE,
        "pipe": tarfile.FIFOTYPE,
        "cat/pipe": tarfile.FIFOTYPE,
        "dog/cat/pipe": tarfile.FIFOTYPE,
    }
    assert {"cat/dog/empty.png", "dog/cat/a.png"} <= sent.keys()


def test_a_folder_that_cannot_be_listed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:  # Root may list whatever the modes say.
        if path.name == "dog":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(FolderUnusable, match="dog cannot be read: Permission denied"):
        FolderTar(folder)


def test_a_folder_whose_files_cannot_be_looked_at_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = Path.is_file

    def refuse(path: Path) -> bool:  # As in a folder that may be listed and not entered.
        if path.parent.name == "dog":
            raise PermissionError(13, "Permission denied")
        return looked(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(FolderUnusable, match="dog cannot be read: Permission denied"):
        FolderTar(folder)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """The innermost of more folders than functions can be nested; taken away again one by one."""
    inner = tmp_path.joinpath(*["d"] * (sys.getrecursionlimit() + 100))
    around = [inner, *inner.parents][: -len(tmp_path.parts)]
    for folder in reversed(around):
        folder.mkdir()
    yield inner
    for path in inner.iterdir():
        path.unlink()
    for folder in around:  # Whoever tidies up after the tests calls itself.
        folder.rmdir()


def test_folders_may_lie_deeper_than_functions_can_call_each_other(
    deep: Path, tmp_path: Path
) -> None:
    (deep / "a.png").write_bytes(b"x")
    assert b"d/a.png" in FolderTar(tmp_path).read()


def test_a_folder_without_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FolderUnusable):
        FolderTar(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable):
        FolderTar(tmp_path)
