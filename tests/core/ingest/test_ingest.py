"""Archives in, verified shards, manifest and report out."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from core.ingest import dry_run
from core.ingest.archive import Limits
from core.ingest.split import Ratios
from tests.archives import PACKERS, folder, gzipped, picture, special, tar_of, zip_of
from tests.core.ingested import GOOD, Ingest, lines_of, outcome, prepare
from tests.disks import FULL
from tests.pictures import photo
from tests.waiting import wait_for


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
    packed = (pack(tar_of(GOOD)) for pack in PACKERS.values())
    data = [zip_of(GOOD), tar_of(GOOD), *packed]
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
    assert done.dataset["drawn"] == ["test", "val"]
    given = {f"train/{path}": data for path, data in folder("cat", "dog", count=10).items()}
    given |= {f"test/{path}": data for path, data in folder("cat", "dog", first=500).items()}
    done = run(zip_of(given), {"val": 0.2, "test": 0.5, "seed": 1})
    assert done.dataset["counts"]["test"] == {"cat": 3, "dog": 3}
    assert done.dataset["counts"]["val"] == {"cat": 2, "dog": 2}
    assert done.dataset["drawn"] == ["val"]
    assert done.dataset["reading"].endswith("test 6 images). val was drawn from train.")
    assert all(split == "test" for path, (split, _) in done.places.items() if "test/" in path)


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
    assert {row["path"]: row["other_path"] for row in done.report} == {
        "train/cat/copy.png": "train/cat/0.png",
        "train/dog/0.png": "val/dog/leak.png",
        "train/cat/both.png": "train/dog/both.png",
        "train/dog/both.png": "train/cat/both.png",
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
        "owl": "class_lost",
    }


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("1", (width, height)).save(out, "PNG")
    return out.getvalue()


def test_bad_images_are_reported_one_by_one(run: Ingest) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(30, 20).save(turned, "JPEG", exif=exif)
    bad = {
        "29 empty.jpg": (b"", "empty_file"),
        "30 text.jpg": (b"hello", "not_an_image"),
        "31 page.jpg": (b"<!DOCTYPE html><html></html>", "not_an_image"),
        "32 drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format_unsupported"),
        "33 script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0", "not_an_image"),
        "34 cut.jpg": (picture(900, "JPEG", 64)[:-100], "image_undecodable"),
        "35 crc.png": (picture(901)[:-20] + b"\0" + picture(901)[-19:], "image_undecodable"),
        "37 large.png": (png(9000, 9000), "image_too_large"),
        "39 thin.png": (png(1, 9000), "image_too_large"),
        "52 psd.png": (b"8BPS\0\1" + bytes(100), "format_unsupported"),
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


def children(pid: int) -> list[str]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for path in lists for child in path.read_text().split()]


def test_drawings_may_shrink_to_a_thousandth(run: Ingest) -> None:
    files: dict[str, bytes] = {}
    for number in range(8):
        drawing = Image.new("RGB", (800, 800), "white")
        drawing.paste("black", (100, 100, 300 + number, 110))
        drawing.save(buffer := io.BytesIO(), "BMP")
        files[f"{('box', 'ball')[number % 2]}/{number}.bmp"] = buffer.getvalue()
    archive = zip_of(files)
    assert len(archive) * 300 < sum(map(len, files.values()))
    for name, data in (("zip", archive), ("gz", gzipped(tar_of(files)))):
        assert run(data, name=name).dataset["images"] == len(files)


def test_hard_links_are_images_of_the_class_in_which_they_lie(run: Ingest) -> None:
    """A pool of images, and one folder of links for each class, as `cp -l` makes it."""
    pool = {f"pool/{n}.png": picture(n) for n in range(8)}
    links = {
        f"set/{('cat', 'dog')[n % 2]}/{n}.png": special(tarfile.LNKTYPE, f"pool/{n}.png")
        for n in range(8)
    }
    answers = {"layout": {"train": ["set"], "ignore": ["pool"]}}
    done = run(gzipped(tar_of({**pool, **links})), answers=answers)
    assert done.dataset["classes"] == ["cat", "dog"]
    assert {line["path"] for line in done.manifest} == set(links)
    assert done.dataset["bytes"] == sum(map(len, pool.values()))


def test_what_an_archive_holds_is_held_against_the_quota(run: Ingest) -> None:
    unpacked = sum(map(len, GOOD.values()))
    assert run(zip_of(GOOD), name="exactly", room=unpacked).dataset["bytes"] == unpacked
    refused = run(zip_of(GOOD), room=unpacked - 1)
    assert refused.error is not None
    assert refused.error["code"] == "quota_exceeded"
    assert not list(refused.folder.glob("**/*.tar"))


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
    monkeypatch.setattr(os, "statvfs", lambda _folder: FULL)
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
    findings = Counter(line["code"] for line in done.report)
    assert findings == {"profile_converted": 30, "elongated": 6}
    done = run(shared / "data" / "imagenet200.zip")
    assert done.error is not None
    assert done.error["code"] == "dataset_invalid"
    assert "200 x no_class" in done.error["hint"]


# ru_maxrss of a process starts at what its parent held when it forked; VmHWM is its own.
MEASURED = """
import re, resource, runpy, sys
from pathlib import Path
sys.argv = sys.argv[1:]
try:
    runpy.run_module("core.ingest", run_name="__main__")
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
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


def test_photographs_in_other_formats_are_named(run: Ingest, tmp_path: Path) -> None:
    """Whatever their suffix, in a zip and in a tar, and in the dry run alike."""
    starts = {
        "heif": (b"\0\0\0\x18ftypmif1", "HEIF"),
        "jxl": (b"\xff\x0a\xff", "JPEG XL"),
        "jp2": (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        "cr3": (b"\0\0\0\x18ftypcrx ", "Canon"),
        "raf": (b"FUJIFILMCCD-RAW", "Fujifilm"),
        "pgm": (b"P5\n8 8\n255\n", "Netpbm"),
    }
    files: dict[str, bytes] = {}
    for suffix, (start, _) in starts.items():
        files |= {f"cat/{suffix}.{suffix}": start + bytes(500), f"dog/{suffix}.jpg": start}
    for name, pack in (("zip", zip_of), ("tar", tar_of)):
        done = run(pack(GOOD | files), name=name)
        told = {row["path"]: row for row in done.report}
        for path in files:
            words = starts[path.partition("/")[2].partition(".")[0]][1]
            assert (told[path]["code"], told[path]["status"]) == ("format_unsupported", "rejected")
            assert words in told[path]["message"]
    (tmp_path / "all.zip").write_bytes(zip_of(GOOD | files))
    summary = dry_run.summarise(tmp_path / "all.zip", Limits(), Ratios())
    assert summary["rejected"] == {"format_unsupported": len(starts)}  # Of those with a suffix.
