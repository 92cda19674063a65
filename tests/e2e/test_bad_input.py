"""Bad input through the front door: a stable code or a report line each, good files kept."""

import io
import json
import os
import tarfile
import zipfile
import zlib
from typing import Any

import pytest

from tests.e2e.conftest import Service, png, zip_of

GOOD = {
    f"{name}/{index}.png": png(value, 100 * value + index)
    for value, name in enumerate(("cat", "dog"))
    for index in range(6)
}


def dataset(service: Service, archive: bytes, name: str = "x.zip") -> tuple[dict[str, Any], str]:
    """Post a dataset, wait for its job, and return both the job and the report's text."""
    answer = service.http.post("/datasets", files={"file": (name, archive)})
    assert answer.status_code == 202, answer.text
    job = service.ended(answer.json()["id"])
    accept = {"Accept": "application/x-ndjson"}
    return job, service.http.get(f"{version_of(job)}/report", headers=accept).text


def version_of(job: dict[str, Any]) -> str:
    """The path of the dataset version that an ingest job has made."""
    return f"/datasets/{job['dataset'].partition('@')[0]}/versions/1"


def zip_with_link() -> bytes:
    buffer = io.BytesIO(zip_of(GOOD))
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def zip_with_bomb() -> bytes:
    buffer = io.BytesIO(zip_of(GOOD))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/bomb.png", bytes(60_000_000))
    return buffer.getvalue()


def tar_with_hard_link() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in GOOD.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.LNKTYPE, "/etc/passwd"
        archive.addfile(link)
    return buffer.getvalue()


def big_png(width: int, height: int) -> bytes:
    """A grey PNG of many pixels and few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress(bytes((width + 1) * height), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


LENET = '{"architecture": "lenet", "hyperparameters": {%s}}'
BAD_MEMBERS = {
    "traversal": {"../escaped.png": png(0, 1)},
    "absolute": {"/tmp/topwork-absolute.png": png(0, 2)},  # noqa: S108 - the attack itself.
    "truncated": {"cat/short.png": png(0, 3, 64)[:700]},
    "text": {"cat/words.jpg": b"this is not a photograph"},
    "81 megapixels": {"cat/huge.png": big_png(9000, 9000)},
}


@pytest.mark.parametrize("case", BAD_MEMBERS)
def test_one_bad_member_costs_only_itself(service: Service, case: str) -> None:
    bad = BAD_MEMBERS[case]
    job, report = dataset(service, zip_of({**GOOD, **bad}))
    assert job["state"] == "succeeded", job
    lines = [json.loads(line) for line in report.splitlines()]
    named = [line for line in lines if line["path"] == next(iter(bad))]
    assert named, report
    assert {line["status"] for line in named} <= {"rejected", "skipped"}
    assert all(line["code"] and line["message"] for line in named)
    assert job["result"]["images"] == len(GOOD)
    assert not os.path.exists("/tmp/topwork-absolute.png")  # noqa: PTH110, S108 - as above.
    outside = [path.name for path in service.data_dir.parent.iterdir()]
    assert sorted(outside) == ["data", "data.log"]


@pytest.mark.parametrize(
    ("archive", "path"),
    [
        pytest.param(zip_with_link(), "cat/link.png", id="symlink"),
        pytest.param(zip_with_bomb(), "cat/bomb.png", id="bomb"),
        pytest.param(tar_with_hard_link(), "cat/link.png", id="hardlink"),
    ],
)
def test_dangerous_members_are_named_and_refused(
    service: Service, archive: bytes, path: str
) -> None:
    job, report = dataset(service, archive)
    assert job["state"] == "succeeded", job
    rejected = [json.loads(line) for line in report.splitlines()]
    assert path in {line["path"] for line in rejected if line["status"] == "rejected"}
    assert job["result"]["images"] == len(GOOD)


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        pytest.param(
            zip_of({k: v for k, v in GOOD.items() if "cat" in k}), "too_few_classes", id="one class"
        ),
        pytest.param(
            zip_of({"cat/a.txt": b"x", "dog/b.txt": b"y"}), "dataset_invalid", id="no images"
        ),
        pytest.param(b"PK\x03\x04 not really", "archive_unreadable", id="broken zip"),
    ],
)
def test_a_hopeless_archive_fails_with_its_code(
    service: Service, archive: bytes, code: str
) -> None:
    answer = service.http.post("/datasets", files={"file": ("x.zip", archive)})
    if answer.status_code == 202:
        job = service.ended(answer.json()["id"])
        assert job["state"] == "failed"
        error = job["error"]
    else:
        assert 400 <= answer.status_code < 500
        error = answer.json()
    assert error["code"] == code
    assert error["hint"]


def test_empty_and_missing_classes_are_findings(service: Service) -> None:
    split = {f"train/{name}": data for name, data in GOOD.items()}
    split |= {"val/cat/9.png": png(0, 900), "val/cat/8.png": png(0, 901)}
    buffer = io.BytesIO(zip_of(split))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("train/bird/", b"")
    job, _ = dataset(service, buffer.getvalue())
    assert job["state"] == "succeeded", job
    shown = service.http.get(version_of(job)).json()
    codes = {finding["code"] for finding in shown["findings"]}
    assert {"class_empty", "class_missing_in_split"} <= codes
    assert shown["classes"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ('{"architecture": "resnet81"}', "architecture_unknown", "architecture"),
        ('{"architecture": "resnet18", "epoch": 3}', "invalid_field", "epoch"),
        (LENET % '"learning_rate": NaN', "malformed_request", None),
        (LENET % '"learning_rate": 1e999', "malformed_request", None),
        (LENET % '"learning_rate": -1', "invalid_field", "hyperparameters.learning_rate"),
        (LENET % '"epochs": -1', "invalid_field", "hyperparameters.epochs"),
    ],
)
def test_a_bad_configuration_is_refused_before_anything_is_stored(
    service: Service, body: str, code: str, param: str | None
) -> None:
    before = service.http.get("/datasets").json()["data"]
    files = {"file": ("x.zip", zip_of(GOOD))}
    answer = service.http.post("/finetune", files=files, data={"config": body})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["param"]) == (code, param), problem
    assert problem["title"]
    assert problem["request_id"]
    assert service.http.get("/datasets").json()["data"] == before


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"this is not a photograph", "image_undecodable"),
        (png(0, 1, 64)[:700], "image_undecodable"),
        (b"", "image_undecodable"),
        (big_png(9000, 9000), "image_too_large"),
    ],
)
def test_predict_names_what_is_wrong_with_each_image(
    service: Service, blocks: bytes, data: bytes, code: str
) -> None:
    if service.http.get("/models/badinput").status_code == 404:
        job = service.finetune(
            blocks,
            name="badinput",
            architecture="lenet",
            weights="none",
            hyperparameters={"epochs": 1},
        )
        assert service.ended(job)["state"] == "succeeded"
    both = service.predict(("bad.jpg", data), ("good.png", png(1, 5)), model="badinput")
    assert both.status_code == 200, both.text
    bad, good = both.json()["results"]
    assert (bad["status"], bad["error"]["code"], bad["filename"]) == ("error", code, "bad.jpg")
    assert bad["error"]["message"]
    assert good["status"] == "ok"
    alone = service.predict(("bad.jpg", data), model="badinput")
    assert alone.status_code == 422


def test_an_unknown_model_is_404_with_the_nearest_name(service: Service) -> None:
    answer = service.predict(("good.png", png(1, 5)), model="mobilenet_v22")
    assert answer.status_code == 404
    assert answer.json()["code"] == "model_not_found"
    assert "mobilenet_v2" in answer.json()["hint"]
