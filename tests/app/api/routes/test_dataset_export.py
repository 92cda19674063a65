"""A version goes out as a zip in each form, and comes in again as the same data set."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from core.store.resources import Resources
from core.store.tables import Dataset
from tests.core.ingested import Outcome, outcome, prepare
from topwork.kinds import ExportForm

SAME = ("sha256", "class", "split", "width", "height", "length")


def at(dataset: Dataset, form: str, number: int = 1) -> str:
    return f"/datasets/{dataset.id}/versions/{number}/export?as={form}"


def read_again(folder: Path, data: bytes) -> Outcome:
    prepare(folder, data, {"val": 0.0}, {})
    child = [sys.executable, "-P", "-m", "core.ingest", str(folder)]
    subprocess.run(child, check=True)
    return outcome(folder)


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = {"length": "bytes"} if "bytes" in rows[0] else {}
    return sorted(tuple(row[names.get(key, key)] for key in SAME) for row in rows)


@pytest.mark.parametrize("form", ExportForm)
def test_a_version_comes_back_as_it_went_out(
    client: TestClient, dataset: Dataset, tmp_path: Path, form: str
) -> None:
    images = client.get(f"/datasets/{dataset.id}/versions/1/images").json()["data"]
    odd = ("hund, 猫",) if form == "folders" else ('a "cat", or; two', "7", "mammal/猫")
    train = [it["sha256"] for it in images if it["split"] == "train"]
    relabel = dict(zip(train, odd, strict=False))
    made = client.post(f"/datasets/{dataset.id}/versions", json={"relabel": relabel})
    assert made.status_code == 201, made.text
    images = client.get(f"/datasets/{dataset.id}/versions/2/images").json()["data"]
    sent = client.get(at(dataset, form, 2))
    assert sent.headers["content-type"] == "application/zip"
    assert f"-2-{form}.zip" in sent.headers["content-disposition"]
    again = read_again(tmp_path / "one", sent.content)
    assert told(again.manifest) == told(images)
    assert (again.dataset["skipped"], again.dataset["rejected"]) == ({}, {})
    assert sent.content == client.get(at(dataset, form, 2)).content
    once_more = read_again(tmp_path / "two", sent.content)
    assert once_more.dataset["digest"] == again.dataset["digest"]


@pytest.mark.parametrize(
    ("name", "refused"),
    [("a/b", "folders"), ("..", "folders"), (".x", "folders"), ("狗" * 90, "folders")],
)
def test_a_form_that_cannot_name_a_class_is_refused(
    client: TestClient, dataset: Dataset, name: str, refused: str
) -> None:
    images = client.get(f"/datasets/{dataset.id}/versions/1/images?split=train").json()["data"]
    relabel = {images[0]["sha256"]: name}
    client.post(f"/datasets/{dataset.id}/versions", json={"relabel": relabel})
    problem = client.get(at(dataset, refused, 2)).json()
    assert (problem["status"], problem["param"]) == (422, "as")
    assert "as=csv" in problem["hint"]
    assert client.get(at(dataset, "csv", 2)).status_code == 200
    assert client.get(at(dataset, "xml")).json()["param"] == "as"


def test_a_damaged_image_breaks_off_the_answer(
    client: TestClient, dataset: Dataset, resources: Resources
) -> None:
    (key,) = resources.storage.list("shards")
    data = bytearray(resources.storage.get_bytes(key))
    data[520] ^= 1
    resources.storage.delete(key)
    resources.storage.put_bytes(key, bytes(data))
    sent = client.get(at(dataset, "csv")).content
    assert not zipfile.is_zipfile(io.BytesIO(sent)), "it ends before its table of contents"


def test_an_answer_is_sent_as_it_is_made(client: TestClient, dataset: Dataset) -> None:
    with client.stream("GET", at(dataset, "csv")) as answer:
        assert "content-length" not in answer.headers
        answer.read()
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert names[-1] == "labels.csv"
    assert len(names) == 13
