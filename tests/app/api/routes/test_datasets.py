import hashlib
import io
import json
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from PIL import Image
from starlette.testclient import TestClient

from app.api import manifests
from app.api.reading import READERS
from app.api.thumbnails import AT_ONCE
from app.asgi import request_body
from core.imaging import decode
from core.store.object_store import Storage
from core.store.resources import Resources
from core.store.tables import Dataset
from tests.app.apiclient import Work, zipped
from tests.waiting import wait_for

MISSING = "ds_0000000000000000000000"


def at(dataset: Dataset, path: str = "", number: int = 1) -> str:
    return f"/datasets/{dataset.id}/versions/{number}{path}"


def test_a_dataset_as_it_is_read(client: TestClient) -> None:
    job = client.post("/datasets", files={"file": ("pets.zip", zipped())}).json()
    body = client.get(f"/datasets/{job['dataset']}").json()
    assert (body["name"], body["state"], body["latest"]) == ("pets", "ingesting", None)
    assert body["job"] == job["id"]
    answer = client.get(f"/datasets/{job['dataset']}/versions/1")
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_not_ready")


def test_a_dataset_and_its_version(client: TestClient, dataset: Dataset) -> None:
    body = client.get(f"/datasets/{dataset.id}").json()
    assert body["state"] == "ready"
    version = client.get(at(dataset)).json()
    assert body["latest"] == version
    assert version["classes"] == ["cat", "dog"]
    assert version["counts"]["train"] == {"cat": 4, "dog": 4}
    assert version["reading"].startswith("I see 2 classes")
    assert [
        row["number"] for row in client.get(f"/datasets/{dataset.id}/versions").json()["data"]
    ] == [1]
    listed = client.get("/datasets").json()
    assert [row["id"] for row in listed["data"]] == [dataset.id]
    assert client.get("/datasets?state=failed").json()["data"] == []


@pytest.mark.parametrize("path", ["", "/versions", "/versions/1", "/versions/1/report",
                                  "/versions/1/images"])  # fmt: skip
def test_a_missing_dataset_is_404(client: TestClient, path: str) -> None:
    answer = client.get(f"/datasets/{MISSING}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found")


def test_a_missing_version_is_404(client: TestClient, dataset: Dataset) -> None:
    assert client.get(at(dataset, number=2)).status_code == 404
    assert client.get(at(dataset, number=2**40)).status_code == 422


def test_rename(client: TestClient, dataset: Dataset) -> None:
    path = f"/datasets/{dataset.id}"
    changed = client.patch(path, json={"name": "cats & dogs", "metadata": {"a": True}}).json()
    assert (changed["name"], changed["metadata"]) == ("cats & dogs", {"a": True})
    assert client.patch(path, json={"metadata": {}}).json()["name"] == "cats & dogs"
    assert client.get(path).json()["metadata"] == {}
    problem = client.patch(path, json={"nmae": "x"}).json()
    assert (problem["status"], problem["param"], problem["hint"]) == (
        422,
        "nmae",
        "Did you mean name?",
    )


def test_delete(client: TestClient, dataset: Dataset, work: Work, resources: Resources) -> None:
    job = work.submit(dataset_id=dataset.id)
    answer = client.delete(f"/datasets/{dataset.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_in_use")
    client.post(f"/jobs/{job}/cancel")
    assert client.delete(f"/datasets/{dataset.id}").status_code == 204
    assert client.get(f"/datasets/{dataset.id}").status_code == 404
    assert resources.storage.list(f"datasets/{dataset.id}") == []
    assert resources.storage.list("shards") == []


def test_the_report_is_paged_or_streamed(client: TestClient, dataset: Dataset) -> None:
    first = client.get(at(dataset, "/report?limit=2"))
    page = first.json()
    assert "after=2" in first.headers["Link"]
    assert [row["id"] for row in page["data"]] == [1, 2]
    assert page["data"][0]["code"] == "not_an_image"
    rest = client.get(at(dataset, f"/report?after={page['last_id']}")).json()
    assert [row["id"] for row in rest["data"]] == [3]
    assert not rest["has_more"]
    lines = client.get(at(dataset, "/report"), headers={"Accept": "application/x-ndjson"})
    assert len([json.loads(line) for line in lines.text.splitlines()]) == 3


class TestImages:
    def test_pages_and_filters(self, client: TestClient, dataset: Dataset) -> None:
        first = client.get(at(dataset, "/images?limit=5")).json()
        rest = client.get(at(dataset, f"/images?after={first['last_id']}")).json()
        paths = [image["path"] for image in first["data"] + rest["data"]]
        assert paths == sorted(paths)
        assert len(paths) == 12
        assert (first["has_more"], rest["has_more"]) == (True, False)
        page = client.get(at(dataset, "/images?class=cat&limit=5"))
        link = page.headers["Link"]
        rest = client.get(link[1 : link.index(">")]).json()
        assert [image["class"] for image in rest["data"]] == ["cat"]
        assert set(first["data"][0]) >= {"class", "split", "width", "height", "findings", "links"}
        select = lambda query: client.get(at(dataset, f"/images?{query}")).json()["data"]  # noqa: E731
        assert {image["class"] for image in select("class=cat")} == {"cat"}
        assert len(select("class=cat&split=val")) == 2
        assert [image["path"] for image in select("finding=exif_rotated")] == ["cat/05.png"]
        assert select("class=horse") == []

    def test_content_is_the_very_file(self, client: TestClient, dataset: Dataset) -> None:
        image = client.get(at(dataset, "/images")).json()["data"][3]
        answer = client.get(image["links"]["content"])
        assert hashlib.sha256(answer.content).hexdigest() == image["sha256"]
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-length"] == str(len(answer.content))
        tag = answer.headers["etag"]
        assert tag == f'"{image["sha256"]}"'
        again = client.get(image["links"]["content"], headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")

    def test_content_is_held_in_pieces_only(
        self, client: TestClient, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = client.get(at(dataset, "/images")).json()["data"][3]
        monkeypatch.setattr(manifests.image_pieces, "__defaults__", (30,))
        lengths = []
        real = Storage.get_range

        def noted(storage: Storage, key: str, offset: int, length: int) -> bytes:
            lengths.append(length)
            return real(storage, key, offset, length)

        monkeypatch.setattr(Storage, "get_range", noted)
        answer = client.get(image["links"]["content"])
        assert hashlib.sha256(answer.content).hexdigest() == image["sha256"]
        assert sum(lengths) == image["bytes"] > 30
        assert max(lengths) == 30

    def test_a_thumbnail_is_a_new_jpeg(self, client: TestClient, dataset: Dataset) -> None:
        image = client.get(at(dataset, "/images")).json()["data"][3]
        answer = client.get(image["links"]["thumbnail"] + "?size=16")
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (16, 16))

    def test_thumbnails_that_wait_hold_no_list_up(
        self,
        app: FastAPI,
        client: TestClient,
        dataset: Dataset,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        gate = threading.Event()
        codes: list[int | str] = []
        address = client.get(at(dataset, "/images")).json()["data"][3]["links"]["thumbnail"]
        at_once = decode.decode

        def slow(*given: Any, **options: Any) -> Any:
            gate.wait(60)
            return at_once(*given, **options)

        monkeypatch.setattr(decode, "decode", slow)
        asking = [
            threading.Thread(target=lambda: codes.append(client.get(address).status_code))
            for _ in range(READERS + AT_ONCE)
        ]
        listing = threading.Thread(
            target=lambda: codes.append(client.get("/datasets").text), daemon=True
        )
        for thread in asking:
            thread.start()
        try:
            turns = app.state.service.thumbnails.turns
            wait_for(lambda: turns.statistics().tasks_waiting == READERS)
            listing.start()
            listing.join(20)
            assert len(codes) == 1
            assert dataset.id in str(codes[0])
        finally:
            gate.set()
            for thread in asking:
                thread.join()
        assert codes[1:] == [200] * (READERS + AT_ONCE)

    @pytest.mark.parametrize("sha256", ["0" * 64, "nonsense", "..%2f..%2fetc%2fpasswd"])
    def test_a_missing_image(self, client: TestClient, dataset: Dataset, sha256: str) -> None:
        for name in ("content", "thumbnail"):
            answer = client.get(at(dataset, f"/images/{sha256}/{name}"))
            assert answer.status_code in (404, 422)


class TestRevision:
    def images(self, client: TestClient, dataset: Dataset, number: int = 1) -> list[dict[str, Any]]:
        return client.get(at(dataset, "/images?limit=100", number)).json()["data"]

    def test_much_json_does_not_hold_others_up(
        self, client: TestClient, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads = []

        def noted(raw: bytes, _most: int) -> Any:
            threads.append(threading.current_thread().name)
            return json.loads(raw)

        monkeypatch.setattr(request_body, "decode", noted)
        many = [f"{number:064x}" for number in range(2000)]
        address = f"/datasets/{dataset.id}/versions"
        assert client.post(address, json={"exclude": many}).status_code == 422
        assert threads == ["AnyIO worker thread"]

    def test_exclude_relabel_and_split(self, client: TestClient, dataset: Dataset) -> None:
        before = self.images(client, dataset)
        wanted = {
            "exclude": [before[0]["sha256"]],
            "relabel": {before[1]["sha256"]: "horse", before[2]["sha256"]: "horse"},
            "split": {"val": 0.25, "test": 0.0, "seed": 1},
        }
        answer = client.post(f"/datasets/{dataset.id}/versions", json=wanted)
        assert answer.status_code == 201, answer.text
        assert answer.headers["Location"] == at(dataset, number=2)
        version = answer.json()
        assert (version["number"], version["images"]) == (2, 11)
        assert version["classes"] == ["cat", "dog", "horse"]
        after = {image["sha256"]: image for image in self.images(client, dataset, 2)}
        assert before[0]["sha256"] not in after
        assert after[before[1]["sha256"]]["class"] == "horse"
        assert self.images(client, dataset) == before  # The old version is as it was.
        content = client.get(at(dataset, f"/images/{before[1]['sha256']}/content", 2))
        assert content.status_code == 200
        assert client.get(f"/datasets/{dataset.id}").json()["latest"]["number"] == 2

    def test_a_version_may_start_from_an_older_one(
        self, client: TestClient, dataset: Dataset
    ) -> None:
        path = f"/datasets/{dataset.id}/versions"
        first = self.images(client, dataset)[0]["sha256"]
        client.post(path, json={"exclude": [first]})
        again = client.post(path, json={"base": 1, "split": {"val": 0.5}}).json()
        assert (again["number"], again["images"]) == (3, 12)

    @pytest.mark.parametrize(
        ("wanted", "code"),
        [
            ({"exclude": ["0" * 64]}, "invalid_field"),
            ({"relabel": {"0" * 64: "x"}}, "invalid_field"),
            ({"exclud": []}, "invalid_field"),
            ({"base": 9}, "dataset_not_found"),
            ({"split": {"val": 0.9, "test": 0.9}}, "invalid_field"),
        ],
    )
    def test_a_wrong_revision_is_refused(
        self, client: TestClient, dataset: Dataset, wanted: dict[str, Any], code: str
    ) -> None:
        answer = client.post(f"/datasets/{dataset.id}/versions", json=wanted)
        assert answer.status_code in (404, 422)
        assert answer.json()["code"] == code

    def test_one_class_is_too_few(self, client: TestClient, dataset: Dataset) -> None:
        cats = [i["sha256"] for i in self.images(client, dataset) if i["class"] == "cat"]
        answer = client.post(f"/datasets/{dataset.id}/versions", json={"exclude": cats})
        assert (answer.status_code, answer.json()["code"]) == (422, "too_few_classes")

    def test_many_images_may_be_named(self, client: TestClient, dataset: Dataset) -> None:
        many = {"exclude": [f"{number:064x}" for number in range(3000)]}
        problem = client.post(f"/datasets/{dataset.id}/versions", json=many).json()
        assert problem["code"] == "invalid_field"  # Unknown images, but no 413.

    @pytest.mark.parametrize(
        ("wanted", "status", "param"),
        [
            ({f"a{number}": 0 for number in range(100_000)}, 413, None),
            ({f"a{number}": 0 for number in range(90_000)}, 422, None),
            ({"exclude": [0] * 90_000}, 422, "exclude.0"),
            ({"relabel": {f"a{number}": 0 for number in range(90_000)}}, 422, "relabel.a0"),
            ({"relabel": {f"{n}": "x" for n in range(200_001)}}, 422, "relabel"),
        ],
    )
    def test_a_wrong_body_is_not_explained_a_hundred_thousand_times(
        self,
        client: TestClient,
        dataset: Dataset,
        monkeypatch: pytest.MonkeyPatch,
        wanted: dict[str, Any],
        status: int,
        param: str | None,
    ) -> None:
        if status == 413:
            monkeypatch.setattr(request_body.RoomyRoute, "most_values", 99_999)
        told: list[int] = []
        kept = RequestValidationError.__init__

        def counted(error: RequestValidationError, errors: Any, **more: Any) -> None:
            told.append(len(errors))
            kept(error, errors, **more)

        monkeypatch.setattr(RequestValidationError, "__init__", counted)
        answer = client.post(f"/datasets/{dataset.id}/versions", json=wanted)
        assert (answer.status_code, answer.json()["param"]) == (status, param)
        assert told == ([1] if status == 422 else [])

    def test_large_bodies_under_way_are_counted(
        self, client: TestClient, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert isinstance(client.app, FastAPI)
        admission = client.app.state.service.roomy
        path, many = (
            f"/datasets/{dataset.id}/versions",
            [f"{number:064x}" for number in range(5000)],
        )
        monkeypatch.setattr(admission, "memory", 1_000_000)
        answer = client.post(path, json={"exclude": many})
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert int(answer.headers["Retry-After"]) >= 1
        with admission.body("somebody") as held:
            held.hold(450_000)
            admission.bytes["others"] = 500_000
            answer = client.post(path, json={"exclude": many[:10]})
            del admission.bytes["others"]
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert not admission.bytes
        assert client.post(path, json={"split": {"val": 0.5}}).status_code == 201
        assert not admission.bytes

    def test_the_same_key_makes_one_version(self, client: TestClient, dataset: Dataset) -> None:
        client.headers["Idempotency-Key"] = "k"
        path = f"/datasets/{dataset.id}/versions"
        first = client.post(path, json={"split": {"val": 0.5}})
        second = client.post(path, json={"split": {"val": 0.5}})
        assert first.json() == second.json()
        assert (first.status_code, second.status_code) == (201, 201)
        assert len(client.get(path).json()["data"]) == 2


@pytest.mark.parametrize("spoiled", ["manifest.jsonl", "report.jsonl", "shards"])
@pytest.mark.parametrize("empty", [False, True])
def test_what_is_damaged_in_storage_is_named_and_not_used(
    client: TestClient, resources: Resources, dataset: Dataset, spoiled: str, *, empty: bool
) -> None:
    own = f"/datasets/{dataset.id}/versions/1"
    image = client.get(f"{own}/images").json()["data"][0]["sha256"]
    if spoiled == "manifest.jsonl":  # Another process has it at hand no longer.
        client.app.state.service.manifests._kept.clear()  # type: ignore[attr-defined]
    for prefix in ("datasets", "shards"):
        for key in resources.storage.list(prefix):
            if spoiled in key:
                data = resources.storage.get_bytes(key)
                half = bytes(byte ^ 0x81 for byte in data)
                resources.storage.put_bytes(key, b"" if empty else half)
    addresses = {
        "manifest.jsonl": ("images", f"images/{image}/content", f"images/{image}/thumbnail"),
        "report.jsonl": () if empty else ("report",),
        "shards": (f"images/{image}/content", f"images/{image}/thumbnail"),
    }
    for address in addresses[spoiled]:
        answer = client.get(f"{own}/{address}")
        assert (answer.status_code, answer.json()["code"]) == (409, "integrity"), answer.text
        assert spoiled in answer.json()["detail"]
