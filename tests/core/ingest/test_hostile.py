"""Hostile archives: the bad member is named, the good ones are kept, nothing gets out."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.archives import Entry, folder, gzipped, honest, picture, raw_zip, tar_of, zip_of
from tests.core.ingested import GOOD, Ingest, outcome, prepare
from tests.corpus import HOPELESS, TARRED, ZIPPED


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


@pytest.mark.parametrize("case", TARRED)
def test_good_files_survive_bad_company_in_a_tar(run: Ingest, tmp_path: Path, case: str) -> None:
    added, expected = TARRED[case]
    done = run(gzipped(tar_of({**GOOD, **added})))
    assert done.error is None
    assert {path: code for path, code in done.codes.items() if code != "nested_folders"} == expected
    assert set(GOOD) <= set(done.places)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.upload"]


@pytest.mark.parametrize(("data", "code"), HOPELESS)
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
    assert error["hint"]
    assert time.process_time() - started < 2


def test_too_many_bytes_are_refused_before_they_are_read(run: Ingest) -> None:
    error = run(zip_of(GOOD), limits={"max_expanded_bytes": 200}).error
    assert error is not None
    assert error["code"] == "archive_too_large"


def test_names_from_the_archive_stay_text(run: Ingest, tmp_path: Path) -> None:
    names = ["<script>alert(1)<", "=cmd|'x'!A0", "猫 と 犬", "$(touch x)", "%2e%2e", "a\u202eb"]
    done = run(zip_of(folder(*names)))
    assert done.dataset["classes"] == sorted(names[:-1])
    assert {row["code"] for row in done.report} == {"class_name_invalid", "class_lost"}
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


def every_zip() -> bytes:
    """One zip of every hostile entry; each bears a number, so that none is another's duplicate."""
    entries = [
        dataclasses.replace(entry, name=entry.name.replace(b"x.", b"x%d." % number, 1))
        for number, (added, _) in enumerate(ZIPPED.values())
        for entry in added
        if entry.offset is None
    ]
    return raw_zip([*honest(GOOD), *entries])


def every_tar() -> bytes:
    """The same for a tar."""
    added = {
        name.replace("x.", f"x{number}.", 1): data
        for number, (members, _) in enumerate(TARRED.values())
        for name, data in members.items()
    }
    return gzipped(tar_of({**GOOD, **added}))


@pytest.mark.parametrize("archive", [every_zip, every_tar])
def test_nothing_is_written_outside_the_run_dir(
    tmp_path: Path, archive: Callable[[], bytes]
) -> None:
    prepare(tmp_path / "run", archive(), None, None)
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(GOOD) <= set(outcome(tmp_path / "run").places)
