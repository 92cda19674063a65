"""Folders of attempts: continued by links, never shared, small when they are done with."""

import errno
import os
from pathlib import Path

import pytest

from core.store.resources import Resources
from worker import attempt


def first_attempt(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "job_1" / "9"
    attempt.prepare(folder)
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "step-1").write_text("one")
    (folder / "checkpoint" / ".step-2.part").write_text("tw")
    (folder / "checkpoint" / "deep").mkdir()
    (folder / "checkpoint" / "deep" / "best").write_text("best")
    (folder / "log.txt").write_text("first words\n")
    (folder / "events.jsonl").write_text('{"kind": "epoch", "epoch": 1}\n{"torn')
    return folder


def test_an_attempt_goes_on_from_the_one_before(tmp_path: Path) -> None:
    before = first_attempt(tmp_path)
    folder = before.with_name("10")  # Compared as a number: as text it comes first.
    kept = (before / "checkpoint" / "step-1").stat()
    attempt.prepare(folder)
    assert (folder / "checkpoint" / "step-1").stat().st_ino == kept.st_ino
    assert (folder / "checkpoint" / "deep" / "best").read_text() == "best"
    assert not (folder / "checkpoint" / ".step-2.part").exists()  # Its writer may still have it.
    assert (folder / "log.txt").read_text() == "first words\n--- attempt 10 ---\n"
    assert '"epoch": 1' in (folder / "earlier.jsonl").read_text()
    assert not before.exists()


def test_files_are_copied_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = first_attempt(tmp_path)

    def link(source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links", str(source))

    monkeypatch.setattr(os, "link", link)
    folder = before.with_name("10")
    attempt.prepare(folder)
    assert (folder / "checkpoint" / "step-1").read_text() == "one"
    assert (folder / "checkpoint" / "deep" / "best").read_text() == "best"


def test_a_cut_preparation_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    before = first_attempt(tmp_path)
    cut = before.with_name("10")
    cut.mkdir()
    (cut / "checkpoint.tmp").mkdir()
    folder = before.with_name("11")
    attempt.prepare(folder)
    assert (folder / "checkpoint" / "step-1").read_text() == "one"


def test_what_is_kept_of_an_ended_attempt(tmp_path: Path) -> None:
    folder = first_attempt(tmp_path)
    (folder / "archive").write_text("large")
    (folder / "result.tmp").mkdir()
    (folder / "result.tmp" / "weights").write_text("large")
    attempt.shrink(folder)
    assert {path.name for path in folder.iterdir()} == {"checkpoint", "log.txt", "events.jsonl"}
    attempt.shrink(folder.with_name("none"))  # It was lost and taken over.


def test_the_stored_log_is_the_end_of_a_long_one(resources: Resources, tmp_path: Path) -> None:
    folder = first_attempt(tmp_path)
    shipper = attempt.LogShipper(resources.storage, "job_1", folder)
    lines = [f"line {number:07}\n" for number in range(150_000)]
    (folder / "log.txt").write_text("".join(lines))
    shipper.ship()
    stored = resources.storage.get_bytes("logs/job_1.txt").decode()
    assert len(stored) <= 1024 * 1024
    assert stored.splitlines()[-1] == "line 0149999"
    assert stored.startswith("line ")
    with (folder / "log.txt").open("a") as file:
        file.write("more\n")
    shipper.ship_every(3600)
    assert resources.storage.get_bytes("logs/job_1.txt").decode() == stored
    shipper.ship_every(0)
    assert resources.storage.get_bytes("logs/job_1.txt").endswith(b"more\n")
