"""Copies are hashed as they are made, and second names are given only where that is asked for."""

import os
from pathlib import Path

import pytest

from core.system import copies
from core.system.atomic_files import sha256


@pytest.mark.parametrize("size", [0, 1, copies.PIECE, copies.PIECE + 1])
def test_a_copy_is_hashed_and_its_own(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    digest = copies.copy(tmp_path / "source", tmp_path / "target")
    with (tmp_path / "source").open("r+b") as file:
        file.write(b"changed")
    assert (tmp_path / "target").read_bytes() == data
    assert digest == sha256(tmp_path / "target")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    for name in ("source", "target"):
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(FileExistsError):
        copies.copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"target"


def test_another_name_shows_the_same_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"content")
    copies.link(tmp_path / "source", tmp_path / "one")

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refused)
    copies.link(tmp_path / "source", tmp_path / "two")
    assert {(tmp_path / name).read_bytes() for name in ("one", "two")} == {b"content"}
    assert (tmp_path / "two").stat().st_nlink == 1


@pytest.mark.parametrize("make", [copies.copy, copies.link])
def test_what_is_absent_leaves_nothing(tmp_path: Path, make: object) -> None:
    assert callable(make)
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "none", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []
