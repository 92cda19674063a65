"""What batch prediction reads of an archive: every file once, labelled where its folder says so."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from core.ingest.archive import Limits
from core.ingest.unpack import unpack
from tests.app.apiclient import png
from topwork.errors import ArchiveTooLarge, ArchiveUnreadable, DatasetInvalid

ONE, OTHER = png((1, 2, 3)), png((9, 2, 3))


def packed(folder: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return folder / "x.zip"


def unpacked(folder: Path, files: dict[str, bytes], **limits: int) -> list[dict[str, Any]]:
    """Unpack these files; return the manifest, each image's bytes compared with its line."""
    archive = packed(folder, files)
    answer = unpack(archive, folder, Limits(**limits))
    manifest = (folder / "manifest.jsonl").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == answer["sha256"]
    lines = [json.loads(line) for line in manifest.splitlines()]
    for line in lines:
        if "error" not in line:
            shard = (folder / "shards" / f"{line['shard']}.tar").read_bytes()
            data = shard[line["offset"] :][: line["length"]]
            assert data == files[line["path"]]
            assert hashlib.sha256(data).hexdigest() == line["sha256"]
    return lines


def test_copies_and_files_without_a_class_are_kept(tmp_path: Path) -> None:
    files = {"cat/a.png": ONE, "dog/a.png": ONE, "dog/b.png": OTHER, "notes.txt": b"x"}
    lines = unpacked(tmp_path, files)
    assert [(line["path"], line["class"]) for line in lines] == [
        ("cat/a.png", "cat"), ("dog/a.png", "dog"), ("dog/b.png", "dog"),
    ]  # fmt: skip


@pytest.mark.parametrize("folder", ["", "test/", "photos/2024/"])
def test_a_flat_folder_has_no_labels(tmp_path: Path, folder: str) -> None:
    lines = unpacked(tmp_path, {f"{folder}a.png": ONE, f"{folder}b.png": OTHER})
    assert [line["path"] for line in lines] == [f"{folder}a.png", f"{folder}b.png"]
    if folder != "photos/2024/":
        assert {line["class"] for line in lines} == {None}


def test_a_tree_that_can_be_read_in_two_ways_has_no_labels(tmp_path: Path) -> None:
    lines = unpacked(tmp_path, {"mammal/cat/a.png": ONE, "bird/owl/b.png": OTHER})
    assert {line["class"] for line in lines} == {None}


def test_what_cannot_be_read_has_a_line_that_says_why(tmp_path: Path) -> None:
    lines = unpacked(tmp_path, {"a.png": ONE, "../b.png": OTHER, "A.png": OTHER})
    codes = {line["path"]: line.get("error", {}).get("code") for line in lines}
    assert codes == {"a.png": None, "../b.png": "path_traversal", "A.png": "name_case_clash"}


def test_an_archive_as_a_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveTooLarge):
        unpack(packed(tmp_path, {"a.png": ONE}), tmp_path, Limits(max_expanded_bytes=9))
    with pytest.raises(DatasetInvalid, match="no image"):
        unpack(packed(tmp_path, {"a.txt": b"x"}), tmp_path, Limits())
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(ArchiveUnreadable):
        unpack(tmp_path / "x.zip", tmp_path, Limits())


def test_it_is_asked_as_a_process(tmp_path: Path) -> None:
    question = {
        "archive": str(packed(tmp_path, {"a.png": ONE})),
        "folder": str(tmp_path),
        "limits": {"max_archive_entries": 5},
        "name_encoding": None,
        "parent": os.getpid(),
    }
    command = [sys.executable, "-m", "core.ingest.unpack", json.dumps(question)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout)["answer"]["skipped"] == {}
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 1
