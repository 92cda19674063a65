"""What an owner has stored, summed by the database; on both kinds of database."""

import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.api.main import create_app
from core.domain import datasets, usage
from core.store.resources import Resources
from core.store.row_access import Caller
from core.system.settings import Settings
from tests.app.apiclient import local_client, publish_dataset, publish_model, zipped
from tests.backends import on_postgres
from tests.disks import FULL

ANNA = Caller("anna", frozenset({"train"}))
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Both: sums over JSON columns are written differently for each."""
    if request.param == "sqlite":
        return settings
    return on_postgres(settings, request.getfixturevalue("postgres"))


def test_stored_bytes_are_counted_and_limited(
    client: TestClient, settings: Settings, resources: Resources, tmp_path: Path
) -> None:
    dataset = publish_dataset(resources, tmp_path / "a")
    publish_dataset(resources, tmp_path / "b", caller=ANNA)
    publish_model(resources)
    archive = zipped()
    assert client.post("/datasets", files={"file": ("x.zip", archive)}).status_code == 202
    length = {"Upload-Length": "1000", **TUS}
    assert client.post("/uploads", headers=length).status_code == 201
    told = client.get("/usage").json()
    with resources.database.read() as session:
        (images,) = [row.summary["bytes"] for row in datasets.versions(session, dataset.id)]
        anna = usage.of(session, "anna")
    kinds = told["bytes_by_kind"]
    assert kinds["datasets"] == images + len(archive)
    assert kinds["models"] > 3000
    assert kinds["uploads"] == 1000
    assert told["stored_bytes"] == sum(kinds.values())
    assert told["max_bytes"] is None
    assert (anna.datasets, anna.models, anna.uploads) == (images, 0, 0)
    most = told["stored_bytes"] + 1500
    with local_client(
        create_app(settings.model_copy(update={"max_bytes_per_owner": most}))
    ) as limited:
        assert limited.post("/uploads", headers=length).status_code == 201
        for answer in (
            limited.post("/uploads", headers=length),
            limited.post("/datasets", files={"file": ("x.zip", zipped())}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
        assert limited.get("/usage").json()["max_bytes"] == most
    assert len(resources.storage.list("uploads")) == 1


def test_a_new_version_of_a_dataset_needs_room(
    settings: Settings, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = publish_dataset(resources, tmp_path / "a")
    address, wanted = f"/datasets/{dataset.id}/versions", {"split": {"val": 0.5}}
    stored = resources.storage.list("datasets")
    with resources.database.read() as session:
        most = usage.of(session, dataset.owner).stored + 100
    with local_client(
        create_app(settings.model_copy(update={"max_bytes_per_owner": most}))
    ) as limited:
        answer = limited.post(address, json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
    monkeypatch.setattr(os, "statvfs", lambda _folder: FULL)
    with local_client(create_app(settings)) as full:
        answer = full.post(address, json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert resources.storage.list("datasets") == stored
