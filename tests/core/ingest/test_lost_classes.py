"""A class that an upload names and of which no image is left is told, whatever took its images."""

import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from core.ingest.archive import Limits
from core.ingest.dry_run import summarise
from core.ingest.split import Ratios
from tests.archives import Entry, folder, honest, picture, raw_zip, special, tar_of, zip_of
from tests.core.ingested import GOOD, Ingest, Outcome

JXL = b"\xff\x0a" + bytes(500)
LINK = (stat.S_IFLNK | 0o777) << 16
FOREIGN = {f"owl/{number}.JXL": JXL + bytes([number]) for number in range(6)}


def lost(done: Outcome) -> dict[str, Any]:
    """Return the lost classes, told alike in summary, findings, report and sentence."""
    told = dict(done.dataset["lost_classes"])
    found = [it for it in done.dataset["findings"] if it["code"] == "class_lost"]
    assert [it["count"] for it in found] == ([len(told)] if told else [])
    rows = {row["path"]: row["message"] for row in done.report if row["code"] == "class_lost"}
    assert rows.keys() == told.keys()
    for name, reasons in told.items():
        for code, files in reasons.items():
            words = f"{files} x {code}"
            assert words in rows[name]
            assert words in found[0]["message"]
            assert words in done.dataset["reading"]
    return told


@pytest.mark.parametrize(
    ("files", "reasons"),
    [
        (FOREIGN, {"owl": {"format_unsupported": 6}}),
        ({"owl/a.jpg": b"", "owl/b.jpg": b"text"}, {"owl": {"empty_file": 1, "not_an_image": 1}}),
        ({"owl/a.png": picture(1)[:40]}, {"owl": {"image_undecodable": 1}}),
        ({"owl/owls.zip": zip_of(GOOD)}, {"owl": {"nested_archive": 1}}),
        ({"owl/a.xyz": b"?"}, {"owl": {"not_an_image": 1}}),
        ({".owl/a.png": picture(900)}, {".owl": {"system_file": 1}}),
        ({"o" * 101 + "/a.png": picture(900)}, {"o" * 101: {"class_name_invalid": 1}}),
        ({"o" * 256 + "/a.png": picture(900)}, {"o" * 256: {"path_too_long": 1}}),
        ({"owl/a.png": GOOD["cat/0.png"]}, {"owl": {"label_conflict": 1}}),
        ({"owl/b/c/d/e/f/g/a.png": picture(900)}, {"owl": {"path_too_deep": 1}}),
        (
            {**FOREIGN, "hen/a.jxl": JXL},
            {"hen": {"format_unsupported": 1}, "owl": {"format_unsupported": 6}},
        ),
    ],
    ids=lambda it: ",".join(it)[:20],
)
def test_a_class_without_a_usable_image_is_told(
    run: Ingest, files: dict[str, bytes], reasons: dict[str, Any]
) -> None:
    done = run(zip_of(folder("cat", "dog", count=4) | files))
    assert done.dataset["classes"] == ["cat", "dog"]
    assert lost(done) == reasons


@pytest.mark.parametrize(
    "files",
    [
        {"notes/read.txt": b"hello", "notes/labels.csv": b"a,b"},
        {".ipynb_checkpoints/0-checkpoint.png": picture(900), ".git/HEAD": b"ref"},
        {"__MACOSX/cat/._0.png": b"x", "cat/.DS_Store": b"x", "owl/.DS_Store": b"x"},
        {"cat/a.jxl": JXL, "dog/deeper/a.jxl": JXL},
        {"a.jxl": JXL, "../owl/a.png": picture(900), "/owl/b.png": picture(901)},
    ],
    ids=["companions", "tools", "macOS", "some files", "no class folder"],
)
def test_what_is_no_class_is_not_lost(run: Ingest, files: dict[str, bytes]) -> None:
    done = run(zip_of(folder("cat", "dog") | files))
    assert done.dataset["classes"] == ["cat", "dog"]
    assert lost(done) == {}


def test_classes_are_lost_below_splits_and_other_folders(run: Ingest) -> None:
    files = folder("set/train/cat", "set/train/dog") | folder("set/val/cat", "set/val/hen", first=9)
    files |= {"set/train/owl/a.jxl": JXL, "set/val/owl/b.jxl": JXL, "set/val/dog/x.jxl": JXL}
    done = run(zip_of(files))
    assert lost(done) == {"hen": {"class_not_in_train": 3}, "owl": {"format_unsupported": 2}}


def test_refused_files_keep_the_folders_meaning_what_they_mean(run: Ingest) -> None:
    files = folder("set/dog/big", "set/dog/small", count=4) | {"set/cat/a.jxl": JXL}
    assert run(zip_of(files)).error["code"] == "layout_ambiguous"  # type: ignore[index]


def test_linked_classes_are_lost(run: Ingest) -> None:
    entries = honest(folder("set/cat", "set/dog"))
    entries += [Entry(b"set/owl", b"../elsewhere/owl", attributes=LINK)]
    entries += [Entry(b"set/hen/1.png", b"../../hen/1.png", attributes=LINK)]
    done = run(raw_zip(entries))
    assert lost(done) == {"hen": {"link": 1}, "owl": {"link": 1}}
    packed: dict[str, bytes | tarfile.TarInfo] = dict(folder("set/cat", "set/dog"))
    packed["set/owl"] = special(tarfile.SYMTYPE, "../elsewhere/owl")
    assert lost(run(tar_of(packed), name="tar")) == {"owl": {"link": 1}}


def test_many_lost_classes_are_all_named_in_the_report(run: Ingest) -> None:
    files = {f"owl {number:02d}/a.jxl": JXL for number in range(12)}
    done = run(zip_of(folder("cat", "dog") | files))
    assert len(done.dataset["lost_classes"]) == 12
    (found,) = [it for it in done.dataset["findings"] if it["code"] == "class_lost"]
    assert (found["severity"], found["count"]) == ("error", 12)
    assert found["message"].endswith("7 more.")
    assert len([row for row in done.report if row["code"] == "class_lost"]) == 12


def test_a_dry_run_names_them_too(tmp_path: Path) -> None:
    archive = tmp_path / "told.zip"
    archive.write_bytes(zip_of(GOOD | FOREIGN))
    (found,) = summarise(archive, Limits(), Ratios())["findings"]
    assert (found["code"], found["examples"]) == ("class_lost", ["owl"])
    assert "6 x format_unsupported" in found["message"]
