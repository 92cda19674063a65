"""The audit log: what enters it, who reads it, how tampering shows."""

import json
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import delete, text
from starlette.testclient import TestClient

from app.api.main import create_app
from core.domain import audit, keys
from core.store.resources import Resources
from core.store.row_access import Caller
from core.store.tables import AuditEntry, Dataset
from core.system.settings import Settings
from tests.app.apiclient import local_client, zipped
from tests.backends import on_postgres
from tests.waiting import wait_for
from topwork.errors import AuditBroken

NAMES = (*audit.FIELDS, "digest")
KEY = "a-long-and-random-key"
ADMIN = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Both databases: what is hashed and summed must be the same bytes and numbers on each."""
    if request.param == "sqlite":
        return settings
    return on_postgres(settings, request.getfixturevalue("postgres"))


@pytest.fixture
def locked(settings: Settings) -> FastAPI:
    return create_app(settings.model_copy(update={"admin_key": SecretStr(KEY)}))


def entries(client: TestClient, **headers: str) -> list[dict[str, Any]]:
    answer = client.get("/audit", headers={"Accept": "application/x-ndjson", **headers})
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_every_change_is_noted_with_its_author(locked: FastAPI, dataset: Dataset) -> None:
    with local_client(locked, headers=ADMIN) as client:
        made = client.post("/keys", json={"scopes": ["train"], "owner": "anna"}).json()
        anna = {"Authorization": f"Bearer {made['key']}", "X-Request-Id": "mine"}
        job = client.post("/datasets", files={"file": ("x.zip", zipped())}, headers=anna).json()
        client.patch(f"/datasets/{dataset.id}", json={"name": "n"})
        client.get("/jobs")
        assert client.delete("/datasets/ds_x").status_code == 404
        found = entries(client)
        newest = client.get("/audit/head").json()
    assert [(one["action"], one["object"], one["status"], one["key"]) for one in found] == [
        ("create_key", "/keys", 201, "admin_key"),
        ("create_dataset", f"/jobs/{job['id']}", 202, made["id"]),
        ("update_dataset", f"/datasets/{dataset.id}", 200, "admin_key"),
    ]
    assert (found[1]["owner"], found[1]["address"], found[1]["request_id"]) == (
        "anna", "127.0.0.1", "mine"
    )  # fmt: skip
    assert audit.verify(found, newest) == 3
    assert made["key"] not in json.dumps(found)


def test_a_repeated_request_is_noted_once(client: TestClient) -> None:
    for _ in range(2):
        client.post(
            "/datasets", files={"file": ("x.zip", zipped())}, headers={"Idempotency-Key": "a"}
        )
    assert len(entries(client)) == 1


def test_refusals_are_noted_but_not_without_bound(settings: Settings, resources: Resources) -> None:
    update = {"admin_key": SecretStr(KEY), "failed_auth_per_minute": 3}
    with resources.database.write() as session:
        reader = keys.create(session, owner="anna", scopes=["read"])[1]
    with local_client(create_app(settings.model_copy(update=update))) as client:
        client.get("/jobs")
        client.post("/finetune", headers={"Authorization": f"Bearer {reader}"})
        for _ in range(100):
            client.get("/keys", headers={"Authorization": "Bearer wrong"})
    with resources.database.read() as session:
        rows, more = audit.page(session, limit=1000)
    assert not more
    assert [(row.action, row.object, row.status) for row in rows[:3]] == [
        ("denied", "GET /jobs", 401),
        ("denied", "POST /finetune", 403),
        ("denied", "GET /keys", 401),
    ]
    assert 3 < len(rows) <= 30
    assert {row.status for row in rows} == {401, 403, 429}


def test_the_log_is_paged_and_for_admins(client: TestClient, resources: Resources) -> None:
    with resources.database.write() as session:
        for number in range(5):
            audit.append(session, None, action="a", thing=str(number), status=200)
    page = client.get("/audit?limit=2").json()
    assert ([one["seq"] for one in page["data"]], page["has_more"]) == ([1, 2], True)
    assert [one["seq"] for one in client.get("/audit?after=3").json()["data"]] == [4, 5]
    with resources.database.write() as session:
        reader = keys.create(session, owner="anna", scopes=["train"])[1]
    for path in ("/audit", "/audit/head"):
        answer = client.get(path, headers={"Authorization": f"Bearer {reader}"})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET owner = 'ben' WHERE seq = 2",
        "UPDATE audit_entry SET status = 500 WHERE seq = 3",
        "DELETE FROM audit_entry WHERE seq = 2",
        "DELETE FROM audit_entry WHERE seq = 3",
        "DELETE FROM audit_entry WHERE seq > 0",
    ],
)
def test_tampering_shows(client: TestClient, resources: Resources, statement: str) -> None:
    anna = Caller("anna", frozenset({"train"}), "key_1", "10.0.0.1", "req_1")
    with resources.database.write() as session:
        for number in range(3):
            audit.append(session, anna, action="delete_job", thing=f"/jobs/{number}", status=204)
    newest = client.get("/audit/head").json()
    assert audit.verify(entries(client), newest) == 3
    with resources.database.write() as session:
        session.execute(text(statement))
    with pytest.raises(AuditBroken):
        audit.verify(entries(client), newest)


def test_a_rewritten_log_shows_against_a_remembered_digest(resources: Resources) -> None:
    def write(owner: str) -> list[dict[str, Any]]:
        with resources.database.write() as session:
            session.execute(delete(AuditEntry))
            head = audit.head(session)
            head.seq, head.digest = 0, ""
            caller = Caller(owner, frozenset())
            for number in range(3):
                audit.append(session, caller, action="x", thing=str(number), status=200)
            rows, _ = audit.page(session)
            return [{name: getattr(row, name) for name in NAMES} for row in rows]

    remembered = write("anna")[1]
    forged = write("ben")
    assert audit.verify(forged) == 3
    with pytest.raises(AuditBroken):
        audit.verify(forged, remembered)


def test_many_writers_make_one_chain(resources: Resources) -> None:
    def write(name: str) -> None:
        for number in range(5):
            with resources.database.write() as session:
                audit.append(session, None, action=name, thing=str(number), status=200)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with resources.database.read() as session:
        rows, _ = audit.page(session, limit=1000)
        assert [row.seq for row in rows] == list(range(1, 21))
        assert audit.verify([{name: getattr(row, name) for name in NAMES} for row in rows]) == 20


def test_what_fails_leaves_no_entry(client: TestClient, resources: Resources) -> None:
    assert client.post("/jobs/job_x/cancel").status_code == 404
    with resources.database.read() as session:
        assert audit.page(session) == ([], False)


def test_a_key_in_an_address_does_not_stay_in_the_log(locked: FastAPI) -> None:
    with local_client(locked, headers=ADMIN) as client:
        made = client.post("/keys", json={"scopes": ["read"]}).json()["key"]
        stranger = {"Authorization": f"Bearer {made}"}
        assert client.delete(f"/datasets/{made}", headers=stranger).status_code == 403

        def noted() -> list[dict[str, Any]]:
            return [one for one in entries(client) if one["action"] == "denied"]

        (denied,) = wait_for(noted)
        assert client.get("/audit/head").status_code == 200
    identity = made.split("_")[1]
    assert denied["object"] == f"DELETE /datasets/tw_{identity}_***"
