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
from core.ingest.tars import CUT_OFF
from core.ingest.unpack import unpack
from tests.app.apiclient import png
from tests.archives import tar_of
from tests.disks import FULL
from topwork.errors import ArchiveTooLarge, ArchiveUnreadable, DatasetInvalid, DiskFull

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


def test_a_table_may_name_a_single_class(tmp_path: Path) -> None:
    rows = b"file,label\na.png,cat\nb.png,cat\n"
    lines = unpacked(tmp_path, {"x/a.png": ONE, "x/b.png": OTHER, "labels.csv": rows})
    assert {line["class"] for line in lines} == {"cat"}


def test_what_a_cut_tar_loses_is_told(tmp_path: Path) -> None:
    whole = tar_of({"cat/a.png": ONE, "dog/b.png": OTHER, "dog/c.png": ONE * 9})
    (tmp_path / "x.tar").write_bytes(whole[: whole.index(ONE * 9) + len(ONE)])
    answer = unpack(tmp_path / "x.tar", tmp_path, Limits())
    assert answer["damage"] == CUT_OFF
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_bytes().splitlines()]
    assert [line.get("error", {}).get("code") for line in lines] == [None, None, "entry_truncated"]


def test_a_full_disk_is_seen_before_and_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _folder: FULL)
        with pytest.raises(DiskFull):
            unpack(packed(tmp_path, {"a.png": ONE}), tmp_path, Limits())
    assert not (tmp_path / "shards").exists()
    said = asked(tmp_path, TOPWORK_FAILPOINTS="ingest.after_image=ENOSPC")
    assert said["error"]["code"] == "disk_full"


def asked(folder: Path, **variables: str) -> dict[str, Any]:
    """What the process says of an archive with one image."""
    question = {
        "archive": str(packed(folder, {"a.png": ONE})),
        "folder": str(folder),
        "limits": {"max_archive_entries": 5},
        "name_encoding": None,
        "reserve": 0,
        "parent": os.getpid(),
    }
    command = [sys.executable, "-m", "core.ingest.unpack", json.dumps(question)]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, **variables})
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_it_is_asked_as_a_process(tmp_path: Path) -> None:
    assert asked(tmp_path)["answer"]["skipped"] == {}
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 1
