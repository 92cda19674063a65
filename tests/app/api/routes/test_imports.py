"""`POST /models/import`: a file becomes a job, and the same file under one name is one job."""

import hashlib
import io
import zipfile
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.main import create_app
from core.domain import jobs, leases, registry
from core.ops import garbage
from core.store.object_store import Storage
from core.store.resources import Resources
from core.store.row_access import Caller
from core.system.settings import Settings
from tests.app.apiclient import Work, local_client, png, publish_model
from topwork.kinds import Scope

TUS = {"Tus-Resumable": "1.0.0"}


def bundle(words: bytes = b"{}") -> bytes:
    """A zip file; only the worker looks into it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("card.json"), words)
    return buffer.getvalue()


def send(client: TestClient, content: bytes = bundle(), /, **fields: str) -> Any:
    files = {"file": ("model.zip", content)}
    return client.post("/models/import", data={"name": "pets", **fields}, files=files)


def publish(resources: Resources, work: Work) -> str:
    """Do what a worker does once it has looked into the bundle; return the job's id."""
    job_id, fence = work.claim()
    with resources.database.write() as session:
        made = registry.publish(
            session, name="pets", job_id=job_id, digest="0" * 64, prefix=f"models/{job_id}/{fence}",
            files={}, card={},
        )  # fmt: skip
        leases.succeed(session, job_id, fence, {"model_version": made.id, "model": "pets@1"})
    return job_id


def test_a_file_is_a_job_with_its_hash(client: TestClient, resources: Resources) -> None:
    answer = send(client, metadata='{"from": "home"}')
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["model"], job["metadata"]) == ("import", "pets", {"from": "home"})
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert job["config"]["sha256"] == hashlib.sha256(bundle()).hexdigest()
    assert resources.storage.get_bytes(job["config"]["upload"]) == bundle()
    assert client.get("/usage").json()["bytes_by_kind"]["models"] == len(bundle())
    assert garbage.collect(resources, 0.0) == []
    assert client.delete(f"/jobs/{job['id']}").status_code in (204, 409)


def test_the_same_file_is_the_same_job(client: TestClient, resources: Resources) -> None:
    first = send(client).json()["id"]
    assert send(client).json()["id"] == first
    assert send(client, name="cats").json()["id"] != first
    assert send(client, bundle(b"other")).json()["id"] != first
    assert len(resources.storage.list("uploads")) == 3
    with resources.database.write() as session:
        jobs.cancel(session, first)
    second = send(client).json()["id"]
    assert second != first


def test_what_was_taken_in_is_not_taken_in_again_until_it_is_deleted(
    client: TestClient, resources: Resources, work: Work
) -> None:
    first = send(client).json()["id"]
    assert publish(resources, work) == first
    assert send(client).json()["id"] == first
    assert client.delete("/models/pets/versions/1").status_code == 204
    assert send(client).json()["id"] != first


def in_pieces(client: TestClient, content: bytes) -> dict[str, str]:
    """Upload a file; return the request that uses it."""
    headers = {**TUS, "Upload-Length": str(len(content))}
    place = client.post("/uploads", headers=headers).headers["Location"]
    piece = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    assert client.patch(place, content=content, headers=piece).status_code == 204
    return {"name": "pets", "upload": place.rpartition("/")[2]}


def test_the_same_file_in_pieces_is_the_same_job_and_used_up(
    client: TestClient, settings: Settings
) -> None:
    """It would count among the owner's open uploads, and take room on the disk."""
    answers = [client.post("/models/import", json=in_pieces(client, bundle())) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert client.get("/uploads").json()["data"] == []
    assert list((settings.data_dir / "uploads").iterdir()) == []


def test_what_is_no_zip_file_is_never_stored(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[str] = []
    monkeypatch.setattr(Storage, "put_file", lambda _self, key, _path: put.append(key))
    assert send(client, png()).json()["code"] == "bundle_invalid"
    refused = client.post("/models/import", json=in_pieces(client, png()))
    assert refused.json()["code"] == "bundle_invalid"
    assert put == []


def test_a_file_in_pieces_is_used_up(client: TestClient) -> None:
    content = bundle()
    body = in_pieces(client, content)
    answer = client.post("/models/import", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["config"]["sha256"] == hashlib.sha256(content).hexdigest()
    gone = client.post("/models/import", json=body)
    assert (gone.status_code, gone.json()["code"]) == (404, "upload_not_found")


@pytest.mark.parametrize(
    ("content", "fields", "code", "param"),
    [
        (png(), {}, "bundle_invalid", "file"),
        (b"", {}, "bundle_invalid", "file"),
        (b"\x80\x04pickle", {}, "bundle_invalid", "file"),
        (bundle(), {"name": "resnet18"}, "invalid_field", "name"),
        (bundle(), {"name": "Not A Name"}, "invalid_field", "name"),
        (bundle(), {"architecture": "resnet18"}, "invalid_field", "architecture"),
    ],
)
def test_bad_requests(
    client: TestClient,
    resources: Resources,
    content: bytes,
    fields: dict[str, str],
    code: str,
    param: str,
) -> None:
    answer = send(client, content, **fields)
    assert answer.status_code == 422, answer.text
    assert (answer.json()["code"], answer.json()["param"]) == (code, param)
    assert answer.json()["hint"] or code == "invalid_field"
    assert resources.storage.list("uploads") == []


def test_a_name_of_somebody_else_is_taken(client: TestClient, resources: Resources) -> None:
    publish_model(resources, caller=Caller("stranger", frozenset({Scope.TRAIN})))
    answer = send(client)
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    assert resources.storage.list("uploads") == []


def test_a_model_needs_room(settings: Settings) -> None:
    limits = {"max_bytes_per_owner": len(bundle()) - 1}
    with local_client(create_app(settings.model_copy(update=limits))) as limited:
        answer = send(limited)
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")


def test_what_nobody_here_has_measured_is_empty(
    client: TestClient, resources: Resources, work: Work
) -> None:
    send(client)
    publish(resources, work)
    for part in ("evaluation", "confusion", "calibration", "errors"):
        answer = client.get(f"/models/pets/versions/1/{part}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["splits"] == {}
