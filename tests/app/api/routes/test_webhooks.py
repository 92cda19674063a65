from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.api.main import create_app
from core.domain import aliases, jobs, registry, webhooks
from core.store.resources import Resources
from core.store.row_access import Caller
from core.system.settings import Settings
from tests.app.apiclient import Work, local_client, publish_model
from topwork.errors import WebhookNotFound
from topwork.kinds import WebhookEvent

HERE = {"url": "http://127.0.0.1:9/hook"}


@pytest.fixture
def open_client(settings: Settings) -> Iterator[TestClient]:
    """A client of a service whose operator allows private addresses."""
    allowed = settings.model_copy(update={"webhooks_to_private_addresses": True})
    with local_client(create_app(allowed)) as client:
        yield client


def test_the_secret_is_shown_once(open_client: TestClient) -> None:
    made = open_client.post("/webhooks", json=HERE)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    row = made.json()
    assert row["secret"].startswith("whsec_")
    assert len(row["events"]) == 4
    for shown in (open_client.get("/webhooks").json()["data"][0],
                  open_client.get(f"/webhooks/{row['id']}").json()):  # fmt: skip
        assert shown == {name: value for name, value in row.items() if name != "secret"}
    assert open_client.delete(f"/webhooks/{row['id']}").status_code == 204
    gone = open_client.get(f"/webhooks/{row['id']}/deliveries")
    assert (gone.status_code, gone.json()["code"]) == (404, "webhook_not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (HERE, "address_refused"),
        ({"url": "http://localhost/"}, "address_refused"),
        ({"url": "https://[::1]/"}, "address_refused"),
        ({"url": "http://169.254.169.254/latest"}, "address_refused"),
        ({"url": "http://2130706433/"}, "address_refused"),
        ({"url": "http://nowhere.invalid/"}, "address_unknown"),
        ({"url": "http://a:99999/"}, "invalid_field"),
        ({"url": "http://[/"}, "invalid_field"),
        ({"url": "http://user@127.0.0.1/"}, "invalid_field"),
        ({"url": "file:///etc/passwd"}, "invalid_field"),
        ({**HERE, "events": []}, "invalid_field"),
        ({**HERE, "events": ["job.dreamt"]}, "invalid_field"),
        ({}, "invalid_field"),
    ],
)
def test_bad_input(client: TestClient, body: dict[str, object], code: str) -> None:
    answer = client.post("/webhooks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert client.get("/webhooks").json()["data"] == []


def test_ends_of_jobs_and_moves_of_aliases_are_told(
    open_client: TestClient, resources: Resources
) -> None:
    row = open_client.post("/webhooks", json=HERE).json()
    quiet = open_client.post("/webhooks", json={**HERE, "events": ["job.failed"]}).json()
    job = Work(resources).submit()
    open_client.post(f"/jobs/{job}/cancel")
    publish_model(resources)
    open_client.put("/models/pets/aliases/production", json={"version": 1})
    path = f"/webhooks/{row['id']}/deliveries"
    told = open_client.get(path, params={"order": "asc"}).json()["data"]
    assert [one["event"] for one in told] == ["job.cancelled", "job.cancelled", "alias.moved"]
    assert told[0]["payload"]["data"]["job"] == job
    assert told[2]["payload"]["data"]["alias"] == "production"
    assert {one["state"] for one in told} == {"pending"}
    assert open_client.get(f"/webhooks/{quiet['id']}/deliveries").json()["data"] == []
    assert open_client.get(path, params={"after": 3}).json()["data"][0]["id"] == 2


def test_owners_see_and_are_told_only_their_own(resources: Resources) -> None:
    anna, bert = (Caller(name, frozenset({"train"})) for name in ("anna", "bert"))
    with resources.database.write(anna) as session:
        row = webhooks.create(session, url="http://a/", events=[*WebhookEvent])
    publish_model(resources, "berts", bert)  # It cancels a job of its own.
    with resources.database.write(bert) as session:
        job = jobs.submit(session, kind="finetune", config={})
        jobs.cancel(session, job.id)
        registry.get(session, "berts", lock=True)
        aliases.point(session, name="berts", alias="production", number=1)
        assert webhooks.page(session)[0] == []
        for look in (webhooks.get, webhooks.deliveries, webhooks.delete, webhooks.revive):
            with pytest.raises(WebhookNotFound):
                look(session, row.id)
    with resources.database.read(anna) as session:
        assert webhooks.deliveries(session, row.id)[0] == []
    with resources.database.write() as session:  # A worker ends a job of anna's.
        jobs.cancel(session, jobs.submit(session, kind="finetune", config={}).id)
    with resources.database.write(anna) as session:
        jobs.cancel(session, jobs.submit(session, kind="finetune", config={}).id)
    with resources.database.read(anna) as session:
        assert len(webhooks.deliveries(session, row.id)[0]) == 1
