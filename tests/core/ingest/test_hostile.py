"""Hostile archives: the bad member is named, the good ones are kept, nothing gets out."""

import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.archives import Entry, folder, gzipped, honest, picture, raw_zip, special, tar_of, zip_of
from tests.core.ingested import GOOD, Ingest, outcome, prepare

MEBIBYTE = 1024 * 1024

# What is added to good files, and what becomes of it.
ZIPPED: dict[str, tuple[list[Entry], dict[str, str]]] = {
    "1 parent": ([Entry(b"../x.png", picture(900))], {"../x.png": "path_traversal"}),
    "2 absolute": ([Entry(b"/x.png", picture(900))], {"/x.png": "path_absolute"}),
    "3 backslash": ([Entry(b"..\\x.png", picture(900))], {"..\\x.png": "path_traversal"}),
    "4 drive": ([Entry(b"C:\\x.png", picture(900))], {"C:\\x.png": "path_drive"}),
    "5 nul": ([Entry(b"cat/x\0.png", picture(900))], {"cat/x\\0.png": "name_nul"}),
    "6 link": (
        [Entry(b"cat/x.png", b"/etc/passwd", attributes=0o120777 << 16)],
        {"cat/x.png": "link"},
    ),
    "11 setuid": ([Entry(b"cat/x.png", picture(900), attributes=0o104755 << 16)], {}),
    "12 twice": ([Entry(b"cat/0.png", picture(900))], {"cat/0.png": "name_duplicate"}),
    "13 case": ([Entry(b"cat/0.PNG", picture(900))], {"cat/0.PNG": "name_case_clash"}),
    "14 unicode": (
        [
            Entry("cat/\u00e9.png".encode(), picture(900)),
            Entry("cat/e\u0301.png".encode(), picture(901)),
        ],
        {"cat/\u00e9.png": "name_unicode_clash"},
    ),
    "15 long name": (
        [Entry(b"cat/" + b"x" * 300 + b".png", picture(900))],
        {"cat/" + "x" * 300 + ".png": "path_too_long"},
    ),
    "16 deep": (
        [Entry(b"d/" * 100 + b"x.png", picture(900))],
        {"d/" * 100 + "x.png": "path_too_deep"},
    ),
    "17 zeros": (
        [Entry(b"cat/x.png", bytes(40 * MEBIBYTE)), Entry(b"cat/y.png", bytes(100 * MEBIBYTE))],
        {"cat/x.png": "ratio_too_high", "cat/y.png": "entry_too_large"},
    ),
    "18 lie": ([Entry(b"cat/x.png", picture(900), size=20)], {"cat/x.png": "size_mismatch"}),
    "19 overlap": (
        [Entry(b"dog/x.png", picture(0), offset=0)],
        {
            "cat/0.png": "entries_overlap",
            "dog/x.png": "entries_overlap",
            "cat": "class_too_small",  # Two are left, and one of them validates.
        },
    ),
    "22 encrypted": ([Entry(b"cat/x.png", b"x" * 20, flags=1)], {"cat/x.png": "encrypted"}),
    "23 nested": ([Entry(b"cat/x.zip", zip_of(GOOD))], {"cat/x.zip": "nested_archive"}),
    "24 junk": (
        [Entry(b"__MACOSX/cat/._0.png", b"x"), Entry(b"cat/.DS_Store", b"x")],
        {"__MACOSX/cat/._0.png": "system_file", "cat/.DS_Store": "system_file"},
    ),
    "25 empty class": ([Entry(b"owl/", method=0)], {"owl": "class_empty"}),
    "27 by content": (
        [
            Entry(b"cat/x.gif", picture(900, "JPEG") + zip_of({"a": b"b"})),
            Entry(b"cat/y", picture(901)),
        ],
        {},
    ),
    "28 methods": (
        [Entry(b"cat/%d.png" % at, b"x", method=at) for at in (9, 12, 14)],
        {f"cat/{at}.png": "compression_unsupported" for at in (9, 12, 14)},
    ),
    "28 descriptor": ([Entry(b"cat/x.png", picture(900), descriptor=True)], {}),
}


@pytest.mark.parametrize("case", ZIPPED)
def test_good_files_survive_bad_company_in_a_zip(run: Ingest, tmp_path: Path, case: str) -> None:
    entries, expected = ZIPPED[case]
    done = run(raw_zip([*honest(GOOD), *entries]))
    assert done.error is None
    assert done.codes == expected
    accepted = {entry.name.decode() for entry in entries} - set(expected)
    assert len(done.manifest) >= len(GOOD) - 1
    if not expected:
        assert accepted <= set(done.places)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.upload"]


TARRED: dict[str, tuple[dict[str, bytes | tarfile.TarInfo], dict[str, str]]] = {
    "1 parent": ({"../x.png": picture(900)}, {"../x.png": "path_traversal"}),
    "2 absolute": ({"/x.png": picture(900)}, {"/x.png": "path_absolute"}),
    "7 link and through": (
        {"cat/out": special(tarfile.SYMTYPE, "/tmp"), "cat/out/x.png": picture(900)},  # noqa: S108
        {"cat/out": "link"},
    ),
    "8 hard link": (
        {"cat/x.png": special(tarfile.LNKTYPE, "/etc/passwd")},
        {"cat/x.png": "link"},
    ),
    "9 pipe": ({"cat/x.png": special(tarfile.FIFOTYPE)}, {"cat/x.png": "special_file"}),
    "10 device": ({"cat/x.png": special(tarfile.CHRTYPE)}, {"cat/x.png": "special_file"}),
    "17 zeros": ({"cat/x.png": bytes(51 * MEBIBYTE)}, {"cat/x.png": "entry_too_large"}),
    "26 dense": ({"cat/x.png": bytes(20 * MEBIBYTE)}, {"cat/x.png": "ratio_too_high"}),
}


@pytest.mark.parametrize("case", TARRED)
def test_good_files_survive_bad_company_in_a_tar(run: Ingest, tmp_path: Path, case: str) -> None:
    added, expected = TARRED[case]
    done = run(gzipped(tar_of({**GOOD, **added})))
    assert done.error is None
    assert {path: code for path, code in done.codes.items() if code != "nested_folders"} == expected
    assert set(GOOD) <= set(done.places)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.upload"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw_zip([Entry(b"../x.png", picture(1))]), "archive_unsafe"),
        (tar_of({"a/x.png": special(tarfile.SYMTYPE, "/etc")}), "archive_unsafe"),
        (zip_of(GOOD)[:-200], "archive_unreadable"),
        (b"hello", "archive_unreadable"),
        (b"", "archive_unreadable"),
        (zip_of({}), "dataset_invalid"),
        (zip_of({"cat/a.txt": b"x", "dog/b.jpg": b"text"}), "dataset_invalid"),
        (zip_of({f"{number}.png": picture(number) for number in range(3)}), "dataset_invalid"),
        (zip_of(folder("cat")), "too_few_classes"),
        (zip_of(folder("cat") | {"dog/x.png": b"<html>"}), "too_few_classes"),
        (zip_of(folder("train/cat", "train/dog", "owl")), "layout_ambiguous"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(run: Ingest, data: bytes, code: str) -> None:
    done = run(data)
    assert done.error is not None
    assert done.error["code"] == code
    assert not (done.folder / "result").exists()


def test_a_refusal_says_what_was_wrong_with_the_files(run: Ingest) -> None:
    error = run(zip_of(folder("cat") | {"dog/x.png": picture(1)[:50], "x.png": picture(9)})).error
    assert error is not None
    assert "1 x image_undecodable, for example dog/x.png" in error["hint"]
    assert "1 x no_class, for example x.png" in error["hint"]


@pytest.mark.parametrize("zip64", [False, True])
def test_too_many_entries_are_refused_at_once(run: Ingest, zip64: bool) -> None:  # noqa: FBT001
    data = raw_zip([Entry(b"a/%d.png" % at, method=0) for at in range(30_000)], zip64=zip64)
    started = time.process_time()
    error = run(data, limits={"max_archive_entries": 3000}).error
    assert error is not None
    assert error["code"] == "archive_too_large"
    assert time.process_time() - started < 2


def test_too_many_bytes_are_refused_before_they_are_read(run: Ingest) -> None:
    error = run(zip_of(GOOD), limits={"max_expanded_bytes": 200}).error
    assert error is not None
    assert error["code"] == "archive_too_large"


def test_names_from_the_archive_stay_text(run: Ingest, tmp_path: Path) -> None:
    names = ["<script>alert(1)<", "=cmd|'x'!A0", "猫 と 犬", "$(touch x)", "%2e%2e", "a\u202eb"]
    done = run(zip_of(folder(*names)))
    assert done.dataset["classes"] == sorted(names[:-1])
    assert {row["code"] for row in done.report} == {"class_name_invalid"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.upload"]


AUDITED = """
import os, runpy, sys
allowed = os.path.realpath(sys.argv[1])
def inside(path):
    return isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(allowed)
def audit(event, args):
    paths = []
    if event == "open" and args[2] is not None:
        writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        paths = [args[0]] if writes else []
    elif event in {"os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.mkfifo", "os.mknod"}:
        paths = [args[0]]
    elif event in {"os.rename", "os.link", "os.symlink"}:
        paths = list(args[:2])
    for path in paths:
        if path != os.devnull and not inside(path):
            sys.stderr.write(f"OUTSIDE {event} {path}\\n")
            os._exit(99)
sys.addaudithook(audit)
sys.dont_write_bytecode = True
sys.argv = ["core.ingest", sys.argv[1]]
runpy.run_module("core.ingest", run_name="__main__")
"""


def test_nothing_is_written_outside_the_run_dir(tmp_path: Path) -> None:
    entries = [entry for added, _ in ZIPPED.values() for entry in added if entry.offset is None]
    prepare(tmp_path / "run", raw_zip([*honest(GOOD), *entries]), None, None)
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(GOOD) <= set(outcome(tmp_path / "run").places)
