"""Every input of ../shared/cases, in each of the ways in which data are sent, gives what it should.

`EXPECTED` is written from the first line of each case.
"""

import json
import subprocess
import sys
import zipfile
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2
import pytest

from core.imaging.inspection import inspect
from tests.e2e.conftest import Service

pytestmark = pytest.mark.slow  # Each of some sixty uploads is read by processes of its own.
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Outcome:
    """What reading an upload gave: an error's code, or classes, images of each split and codes."""

    error: str | None = None
    classes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    codes: frozenset[str] = frozenset()  # Of files that are not used, and of findings.

    def gives(self, expected: "Outcome") -> bool:
        """Tell whether this is what was expected, and perhaps more findings."""
        return expected.codes <= self.codes and replace(self, codes=expected.codes) == expected


def used(
    counts: Mapping[str, int], *codes: str, classes: tuple[str, ...] = ("cat", "dog")
) -> Outcome:
    return Outcome(None, classes, counts, frozenset(codes))


DRAWN = {"train": 6, "val": 2}  # Of eight images without splits.
EXPECTED = {
    "01-gbk-names": Outcome("name_encoding_unknown"),
    "02-unicode-path-extra": used(DRAWN, classes=("狗", "猫")),
    "05-class-of-heic-vanishes": used(DRAWN, "class_lost", classes=("bird", "dog")),
    "10-line-drawings-bmp": used(DRAWN, classes=("ball", "box")),
    "12-colab-path": used({"train": 8, "val": 8}),
    "14-training-set-names": used({**DRAWN, "test": 8}),
    "15-seg-train-nested": used({**DRAWN, "test": 8}, "unlabelled"),
    "17-unlabelled-test": used(DRAWN, "unlabelled"),
    "19-csv-labels": used(DRAWN, "labels_from_table"),
    # Both of its splits hold the same bytes, so that nothing is left to train on.
    "21-roboflow-classes-csv": Outcome("dataset_invalid"),
    "22-file-name-labels": Outcome("layout_ambiguous"),
    "23-class-in-parts": Outcome("layout_ambiguous"),
    "24-twelve-bit-in-sixteen": used(DRAWN, "dark_range", classes=("normal", "sick")),
    "26-foreign-formats": used({"train": 8, "val": 2}, "format_unsupported"),
    "34-recompressed-leak": used({"train": 9, "val": 10}, "near_conflict"),
    "37-official-split-list": used({"train": 2, "val": 2, "test": 4}, "labels_from_table"),
}
# Whose names are bytes that neither a form nor a folder can hold.
ARCHIVE_ONLY = {"01-gbk-names", "02-unicode-path-extra"}


def made(case: Path, folder: Path) -> Path:
    """Run a case, and return the file that it wrote."""
    out = folder / f"{case.stem}.zip"
    subprocess.run([sys.executable, case, out], check=True, capture_output=True, timeout=120)
    return out


def read(service: Service, job_id: str) -> Outcome:
    """Wait for an upload to be read, and return what came of it."""
    job = service.ended(job_id, 600)
    if job["state"] != "succeeded":
        return Outcome(job["error"]["code"])
    dataset, _, number = job["dataset"].partition("@")
    found = service.http.get(f"/datasets/{dataset}/versions/{number or 1}").json()
    codes = [*found["skipped"], *found["rejected"], *(it["code"] for it in found["findings"])]
    counts = {split: sum(by.values()) for split, by in found["counts"].items()}
    return Outcome(None, tuple(found["classes"]), counts, frozenset(codes))


def sent(answer: httpx2.Response) -> str:
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def by_archive(service: Service, archive: Path) -> str:
    file = ("data.zip", archive.read_bytes(), "application/zip")
    return sent(service.http.post("/datasets", files={"file": file}))


def by_many_files(service: Service, archive: Path) -> str:
    with zipfile.ZipFile(archive) as opened:
        parts = [
            ("file", (f"data/{name}", opened.read(name), "application/octet-stream"))
            for name in opened.namelist()
        ]
    return sent(service.http.post("/datasets", files=parts))


def by_tus(service: Service, archive: Path) -> str:
    content, name = archive.read_bytes(), b64encode(b"data.zip").decode()
    size = {"Upload-Length": str(len(content)), "Upload-Metadata": f"filename {name}"}
    opened = service.http.post("/uploads", headers=TUS | size)
    assert opened.status_code == 201, opened.text
    place, half = opened.headers["location"], len(content) // 2 + 1
    for start in (0, half):
        headers = {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
        part = content[start : start + half]
        assert service.http.patch(place, headers=TUS | headers, content=part).status_code == 204
    upload = place.rstrip("/").rpartition("/")[2]
    return sent(service.http.post("/datasets", json={"upload": upload}))


def by_command(service: Service, archive: Path) -> str:
    folder = archive.with_suffix("")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    command = ["datasets", "add", str(folder), "--no-watch", "--json", "--url", service.url]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *command],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(service.http.get(f"/datasets/{json.loads(done.stdout)['id']}").json()["job"])


@pytest.mark.parametrize("way", [by_archive, by_many_files, by_tus, by_command])
def test_each_case_gives_what_its_first_line_expects(
    service: Service, shared: Path, tmp_path: Path, way: Callable[[Service, Path], str]
) -> None:
    jobs = {}
    for name in EXPECTED:
        if way in (by_archive, by_tus) or name not in ARCHIVE_ONLY:
            jobs[name] = way(service, made(shared / "cases" / f"{name}.py", tmp_path))
    found = {name: read(service, job) for name, job in jobs.items()}
    other = {name: it for name, it in found.items() if not it.gives(EXPECTED[name])}
    assert other == {}


def test_single_images_are_read_and_what_they_are_is_said(shared: Path, tmp_path: Path) -> None:
    """A photograph of 48 megapixels, and a raw file of which there is only a preview."""
    phone = made(shared / "cases" / "28-phone-48-megapixels.py", tmp_path).read_bytes()
    assert (inspect(phone).width, inspect(phone).height) == (8064, 6048)
    raw = made(shared / "cases" / "29-dng-thumbnail.py", tmp_path).read_bytes()
    assert "preview_only" in inspect(raw).findings
