"""A database that commits and is cut off before it can say so: nothing that a row needs is gone."""

import sqlite3
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from core.domain import datasets
from core.ops.garbage import collect
from core.store.resources import Resources
from core.store.tables import Dataset, DatasetVersion
from tests.app.apiclient import zipped
from tests.invariants import broken

ONCE = {"Idempotency-Key": "k"}


@pytest.fixture
def cut(app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have the next commits of the api be made, and their answers be lost; undo() ends it."""
    assert client.get("/jobs").status_code == 200
    engine = app.state.service.resources.database.engine
    commit = engine.dialect.do_commit

    def unheard(connection: Any) -> None:
        commit(connection)
        message = "the connection was cut"
        raise sqlite3.OperationalError(message)

    monkeypatch.setattr(engine.dialect, "do_commit", unheard)
    return monkeypatch


def test_an_uploaded_archive_outlives_the_lost_answer(
    client: TestClient, cut: pytest.MonkeyPatch, resources: Resources
) -> None:
    files = {"file": ("pets.zip", zipped())}
    lost = client.post("/datasets", files=files, headers=ONCE)
    assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
    cut.undo()
    again = client.post("/datasets", files=files, headers=ONCE)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    with resources.database.read() as session:
        (dataset,) = session.scalars(select(Dataset))
    assert resources.storage.get_bytes(str(dataset.upload)) == zipped()
    assert not broken(resources)


def test_a_new_version_outlives_the_lost_answer(
    client: TestClient, dataset: Dataset, cut: pytest.MonkeyPatch, resources: Resources
) -> None:
    """The image that the first request left out is not there to be left out once more."""
    path = f"/datasets/{dataset.id}/versions"
    image = client.get(f"{path}/1/images").json()["data"][0]["sha256"]
    assert client.post(path, json={"exclude": [image]}, headers=ONCE).status_code == 503
    cut.undo()
    again = client.post(path, json={"exclude": [image]}, headers=ONCE)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert again.json()["number"] == 2
    with resources.database.read() as session:
        version = datasets.version(session, f"{dataset.id}@2")
        assert len(session.scalars(select(DatasetVersion)).all()) == 2
    assert resources.storage.exists(f"{version.prefix}/manifest.jsonl")
    assert client.get(f"{path}/2/images").json()["data"]
    assert not broken(resources)


@pytest.mark.parametrize(
    ("words", "status", "kept"),
    [("the database is away", 503, True), ("database or disk is full", 507, False)],
)
def test_what_was_not_committed_is_removed_at_once_if_that_is_sure_or_else_later(
    client: TestClient,
    resources: Resources,
    app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
    *,
    words: str,
    status: int,
    kept: bool,
) -> None:
    assert client.get("/jobs").status_code == 200
    engine = app.state.service.resources.database.engine

    def refused(_connection: Any) -> None:
        raise sqlite3.OperationalError(words)

    monkeypatch.setattr(engine.dialect, "do_commit", refused)
    answer = client.post("/datasets", files={"file": ("pets.zip", zipped())})
    assert answer.status_code == status
    assert bool(resources.storage.list("uploads")) is kept
    monkeypatch.undo()
    collect(resources, grace=0.0)
    assert not resources.storage.list("uploads")
