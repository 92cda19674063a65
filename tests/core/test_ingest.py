"""Archives in, verified shards, manifest and report out; hostile ones included."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.errors import TopworkError
from core.ingest import ingest
from core.rundir import RunDir
from tests.archives import Entry, folder, gzipped, honest, picture, raw_zip, special, tar_of, zip_of
from tests.waiting import wait_for

MEBIBYTE = 1024 * 1024
GOOD = folder("cat", "dog")


@dataclass
class Outcome:
    """What a run left behind."""

    folder: Path
    error: dict[str, Any] | None = None
    dataset: dict[str, Any] = field(default_factory=dict)
    manifest: list[dict[str, Any]] = field(default_factory=list)
    report: list[dict[str, Any]] = field(default_factory=list)

    @property
    def codes(self) -> dict[str, str]:
        return {row["path"]: row["code"] for row in self.report}

    @property
    def places(self) -> dict[str, tuple[str, str]]:
        return {line["path"]: (line["split"], line["class"]) for line in self.manifest}


Ingest = Callable[..., Outcome]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def prepare(folder: Path, data: bytes | Path, split: object, limits: object) -> None:
    archive = data if isinstance(data, Path) else folder.parent / f"{folder.name}.upload"
    if isinstance(data, bytes):
        archive.write_bytes(data)
    folder.mkdir(exist_ok=True)
    request = {"archive": str(archive), "split": split or {}, "limits": limits or {}}
    (folder / "request.json").write_text(json.dumps(request))


def outcome(folder: Path) -> Outcome:
    result = folder / "result"
    if not result.is_dir():
        return Outcome(folder)
    return Outcome(
        folder,
        dataset=json.loads((result / "dataset.json").read_text()),
        manifest=lines_of(result / "manifest.jsonl"),
        report=lines_of(result / "report.jsonl"),
    )


@pytest.fixture
def run(tmp_path: Path) -> Ingest:
    def ingested(
        data: bytes | Path, split: object = None, limits: object = None, name: str = "run"
    ) -> Outcome:
        prepare(tmp_path / name, data, split, limits)
        run_dir = RunDir(tmp_path / name)
        try:
            ingest(run_dir)
        except TopworkError as error:
            return Outcome(run_dir.path, error=error.to_dict())
        finally:
            run_dir.close()
        return outcome(run_dir.path)

    return ingested


def test_a_zip_becomes_shards_manifest_and_report(run: Ingest) -> None:
    files = folder("pets/train/cat", "pets/train/dog", "pets/val/cat", "pets/val/dog")
    done = run(zip_of(files | {"pets/readme.txt": b"hello"}))
    assert done.dataset["classes"] == ["cat", "dog"]
    assert done.dataset["counts"] == {"train": {"cat": 3, "dog": 3}, "val": {"cat": 3, "dog": 3}}
    assert done.dataset["skipped"] == {"not_an_image": 1}
    assert done.dataset["rejected"] == {}
    assert done.codes == {"pets/readme.txt": "not_an_image"}
    manifest = (done.folder / "result" / "manifest.jsonl").read_bytes()
    assert done.dataset["digest"] == hashlib.sha256(manifest).hexdigest()
    assert [line["path"] for line in done.manifest] == sorted(files)
    for line in done.manifest:
        data = files[line["path"]]
        assert line["sha256"] == hashlib.sha256(data).hexdigest()
        assert (line["width"], line["height"], line["length"]) == (8, 8, len(data))
        shard = (done.folder / "result" / "shards" / f"{line['shard']}.tar").read_bytes()
        assert hashlib.sha256(shard).hexdigest() == line["shard"]
        assert shard[line["offset"] :][: line["length"]] == data
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "events.jsonl",
        "request.json",
        "result",
    ]
    phases = [it["phase"] for it in lines_of(done.folder / "events.jsonl") if "phase" in it]
    assert phases == ["planning", "decoding", "publishing"]


def test_zip_tar_and_gzip_of_the_same_files_are_the_same_dataset(run: Ingest) -> None:
    data = [zip_of(GOOD), tar_of(GOOD), gzipped(tar_of(GOOD))]
    digests = {run(it, name=f"run{at}").dataset["digest"] for at, it in enumerate(data)}
    assert len(digests) == 1


def test_a_rerun_starts_clean_and_gives_the_same(run: Ingest) -> None:
    first = run(zip_of(GOOD))
    (first.folder / "result").rename(first.folder / "result.tmp")
    (first.folder / "result.tmp" / "shards" / "next").write_bytes(b"torn")
    again = run(zip_of(GOOD))
    assert again.dataset == first.dataset
    assert len(list((again.folder / "result" / "shards").iterdir())) == 1


def test_a_split_is_drawn_where_none_is_given(run: Ingest) -> None:
    done = run(zip_of(folder("cat", "dog", count=10)), {"val": 0.2, "test": 0.1, "seed": 1})
    assert done.dataset["counts"] == {
        "train": {"cat": 7, "dog": 7},
        "val": {"cat": 2, "dog": 2},
        "test": {"cat": 1, "dog": 1},
    }
    given = {f"train/{path}": data for path, data in folder("cat", "dog", count=10).items()}
    given |= {f"test/{path}": data for path, data in folder("cat", "dog", first=500).items()}
    done = run(zip_of(given), {"val": 0.2, "test": 0.5, "seed": 1})
    assert done.dataset["counts"]["test"] == {"cat": 3, "dog": 3}
    assert done.dataset["counts"]["val"] == {"cat": 2, "dog": 2}
    assert done.dataset["reading"].endswith("test 6 images). val was drawn from train.")
    assert all(split == "test" for path, (split, _) in done.places.items() if "test/" in path)


# The archive part of the corpus in reliability.md 4.1, by number: what is added to good files,
# what becomes of it.
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


def test_a_cut_off_tar_keeps_what_came_before(run: Ingest) -> None:
    data = tar_of(folder("cat", "dog", count=6))
    done = run(data[: 10 * 1024 + 520])
    assert len(done.manifest) == 10
    assert done.codes == {"(archive)": "archive_damaged", "dog/4.png": "entry_truncated"}
    assert done.dataset["findings"][0]["severity"] == "error"


def test_copies_leaks_and_conflicts_are_found(run: Ingest) -> None:
    files = {f"train/{path}": data for path, data in GOOD.items()}
    files |= {f"val/{path}": data for path, data in folder("cat", "dog", first=500).items()}
    files["train/cat/copy.png"] = files["train/cat/0.png"]
    files["val/dog/leak.png"] = files["train/dog/0.png"]
    files["train/dog/both.png"] = files["train/cat/both.png"] = picture(900)
    done = run(zip_of(files))
    assert done.codes == {
        "train/cat/copy.png": "duplicate",
        "train/dog/0.png": "split_leak",
        "train/cat/both.png": "label_conflict",
        "train/dog/both.png": "label_conflict",
    }
    assert done.places["val/dog/leak.png"] == ("val", "dog")
    assert {it["code"]: it["count"] for it in done.dataset["findings"]} == {
        "duplicate": 1,
        "split_leak": 1,
        "label_conflict": 2,
    }
    assert len({line["sha256"] for line in done.manifest}) == len(done.manifest)
    (shard,) = (done.folder / "result" / "shards").iterdir()
    with tarfile.open(shard) as archive:
        assert len(archive.getnames()) == len(set(files.values()))


def test_classes_are_checked_across_splits(run: Ingest) -> None:
    files = folder("train/cat", "train/dog", "train/hen") | folder("val/cat", "val/owl", first=500)
    files |= {"val/hen/x.png": b"broken"}
    done = run(zip_of(files))
    assert done.dataset["classes"] == ["cat", "dog", "hen"]
    assert done.codes == {
        "val/owl/0.png": "class_not_in_train",
        "val/owl/1.png": "class_not_in_train",
        "val/owl/2.png": "class_not_in_train",
        "val/hen/x.png": "not_an_image",
        "val/dog": "class_missing_in_split",
        "val/hen": "class_missing_in_split",
        "owl": "class_empty",
    }


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("1", (width, height)).save(out, "PNG")
    return out.getvalue()


def test_bad_images_are_reported_one_by_one(run: Ingest) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(turned, "JPEG", exif=exif)
    bad = {
        "29 empty.jpg": (b"", "empty_file"),
        "30 text.jpg": (b"hello", "not_an_image"),
        "31 page.jpg": (b"<!DOCTYPE html><html></html>", "not_an_image"),
        "32 drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        "33 script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0", "not_an_image"),
        "34 cut.jpg": (picture(900, "JPEG", 64)[:-100], "image_undecodable"),
        "35 crc.png": (picture(901)[:-20] + b"\0" + picture(901)[-19:], "image_undecodable"),
        "37 large.png": (png(9000, 9000), "image_too_large"),
        "39 thin.png": (png(1, 9000), "image_too_large"),
        "52 psd.png": (b"8BPS\0\1" + bytes(100), "not_an_image"),
    }
    files = {f"cat/{name}": data for name, (data, _) in bad.items()}
    done = run(zip_of(GOOD | files | {"dog/49 turned.jpg": turned.getvalue()}))
    assert done.codes == {
        **{f"cat/{name}": code for name, (_, code) in bad.items()},
        "dog/49 turned.jpg": "exif_rotated",
    }
    (line,) = [line for line in done.manifest if "turned" in line["path"]]
    assert (line["width"], line["height"], line["findings"]) == (20, 30, ["exif_rotated"])
    assert len(done.manifest) == len(GOOD) + 1


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


def children(pid: int) -> list[str]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for path in lists for child in path.read_text().split()]


def test_sigterm_stops_a_run_and_its_decoders(tmp_path: Path) -> None:
    prepare(tmp_path / "run", zip_of(folder("cat", "dog", count=500)), None, None)
    child = subprocess.Popen([sys.executable, "-m", "core.ingest", str(tmp_path / "run")])
    events = tmp_path / "run" / "events.jsonl"
    wait_for(lambda: events.exists() and "decoding" in events.read_text())
    decoders = wait_for(lambda: children(child.pid))
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 75
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in decoders))
    assert not (tmp_path / "run" / "result").exists()
    assert not (tmp_path / "run" / "error.json").exists()


def test_a_full_disk_is_refused_before_anything_is_written(
    run: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.ingest.SPARE_BYTES", 1 << 60)
    error = run(zip_of(GOOD)).error
    assert error is not None
    assert error["code"] == "disk_full"


def test_photographs_are_read_as_they_are(run: Ingest, shared: Path) -> None:
    done = run(shared / "data" / "hymenoptera.zip")
    assert done.dataset["classes"] == ["ants", "bees"]
    assert {split: sum(by.values()) for split, by in done.dataset["counts"].items()} == {
        "train": 245,
        "val": 153,
    }
    assert done.report == []
    done = run(shared / "data" / "imagenet200.zip")
    assert done.error is not None
    assert done.error["code"] == "dataset_invalid"
    assert "200 x no_class" in done.error["hint"]


MEASURED = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module("core.ingest", run_name="__main__")
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
def test_sixty_thousand_images_fit_into_little_memory(tmp_path: Path, shared: Path) -> None:
    prepare(tmp_path / "run", shared / "data" / "cifar10.zip", {"val": 0.1}, None)
    arguments = [sys.executable, "-c", MEASURED, "core.ingest", str(tmp_path / "run")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=280, check=True)
    own, largest_decoder = (int(line) for line in done.stdout.split())
    decoders = len(os.sched_getaffinity(0))
    assert own + min(decoders, 3) * largest_decoder < 500 * 1024  # KiB
    found = outcome(tmp_path / "run")
    assert found.dataset["images"] == 60_000
    assert found.dataset["counts"]["test"] == dict.fromkeys(found.dataset["classes"], 1000)
    assert found.report == []
