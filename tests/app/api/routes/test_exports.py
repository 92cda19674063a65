"""Exports over HTTP: ordered once, seen by their owner alone, downloaded as they were hashed."""

import hashlib

import pytest
from starlette.testclient import TestClient

from core.domain import exports, jobs, registry
from core.ops import garbage
from core.store.resources import Resources
from core.store.row_access import Caller
from core.store.tables import ModelVersion
from tests.app.apiclient import publish_model
from topwork.errors import IntegrityError, ModelNotFound
from topwork.kinds import Scope

PATH = "/models/pets/versions/1/exports"
CONTENT = {"model.onnx": b"o" * 3000, "parity.json": b"{}"}


@pytest.fixture
def published(resources: Resources) -> str:
    """An export as its job would have published it; return its storage prefix."""
    version = publish_model(resources)
    compared = {"images": 3, "alike": 3, "max_difference": 1e-6, "differing": []}
    files = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in CONTENT.items()
    }
    for name, data in CONTENT.items():
        resources.storage.put_bytes(f"exports/job/1/{name}", data)
    with resources.database.write() as session:
        found = registry.version(session, "pets", version.number)
        report = {"held_out": compared, "made": compared}
        exports.publish(session, found, "onnx", prefix="exports/job/1", files=files, report=report)
    return "exports/job/1"


@pytest.mark.usefixtures("published")
def test_an_export_and_its_file(client: TestClient) -> None:
    (listed,) = client.get(PATH).json()["data"]
    assert listed == client.get(f"{PATH}/onnx").json()
    assert listed["report"]["held_out"]["alike"] == 3
    answer = client.get(listed["links"]["files/model.onnx"])
    assert answer.content == CONTENT["model.onnx"]
    assert answer.headers["content-length"] == "3000"
    for form, file in (("onnx", "card.json"), ("onnx", "..%2fmodel.onnx"), ("torch", "model.pt2")):
        assert client.get(f"{PATH}/{form}/files/{file}").status_code == 404
    assert client.get(f"{PATH}/torch").json()["code"] == "export_not_found"


def test_a_damaged_file_is_not_sent(
    client: TestClient, resources: Resources, published: str
) -> None:
    resources.storage.put_bytes(f"{published}/model.onnx", b"x" * 3000)
    answer = client.get(f"{PATH}/onnx/files/model.onnx")
    assert (answer.status_code, answer.json()["code"]) == (IntegrityError.status, "integrity")
    assert "ETag" not in answer.headers


def test_the_same_order_is_the_same_job(client: TestClient, resources: Resources) -> None:
    publish_model(resources)
    first = client.post(PATH, json={"format": "onnx"})
    assert first.status_code == 202
    assert (first.json()["kind"], first.json()["model"]) == ("export", "pets")
    assert client.post(PATH, json={}).json()["id"] == first.json()["id"]
    other = client.post(PATH, json={"format": "torch"}).json()["id"]
    assert other != first.json()["id"]
    with resources.database.write() as session:
        jobs.cancel(session, first.json()["id"])
    assert client.post(PATH, json={}).json()["id"] not in {first.json()["id"], other}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"preprocess": {"crop": 32}}, "revision 1"),
        ({"files": {"weights.safetensors": {"sha256": "0", "size": 2**31}}}, "2147483648 bytes"),
    ],
)
def test_what_an_onnx_file_cannot_do_is_refused_at_once(
    client: TestClient, resources: Resources, changed: dict[str, object], told: str
) -> None:
    version = publish_model(resources)
    with resources.database.write() as session:
        session.get_one(ModelVersion, version.id).card = version.card | changed
    answer = client.post(PATH, json={"format": "onnx"})
    refused = answer.json()
    assert (answer.status_code, refused["code"], refused["param"]) == (
        422, "invalid_field", "format"
    )  # fmt: skip
    assert told in refused["detail"]
    assert "Export it as torch" in refused["hint"]
    assert client.post(PATH, json={"format": "torch"}).status_code == 202


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PATH, {"format": "tflite"}, 422),
        (PATH, {"form": "onnx"}, 422),
        (PATH, [], 422),
        ("/models/pets/versions/9/exports", {}, 404),
        ("/models/nobody/versions/1/exports", {}, 404),
        ("/models/pets/versions/0/exports", {}, 422),
    ],
)
def test_bad_orders(
    client: TestClient, resources: Resources, path: str, body: object, status: int
) -> None:
    publish_model(resources)
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"]


def test_another_owner_sees_none(resources: Resources, published: str) -> None:
    stranger = Caller("stranger", frozenset({Scope.TRAIN}))
    with resources.database.read(stranger) as session, pytest.raises(ModelNotFound):
        registry.version(session, "pets", 1)  # Through which each of the routes goes.
    assert resources.storage.exists(f"{published}/model.onnx")


def test_it_goes_with_its_model(client: TestClient, resources: Resources, published: str) -> None:
    garbage.collect(resources, 0)
    assert resources.storage.exists(f"{published}/model.onnx")
    assert client.delete("/models/pets").status_code == 204
    assert not resources.storage.exists(f"{published}/model.onnx")
