"""`POST /datasets/{id}/answers`: a failed reading goes on with what the request says."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.uploads import resumable
from core.domain import jobs, leases, usage
from core.ops import garbage
from core.store.resources import Resources
from core.store.row_access import DEFAULT_OWNER
from core.store.tables import Dataset, Job
from tests import content
from tests.app.apiclient import Work, config, zipped
from topwork.errors import LayoutAmbiguous

OUTER = {"layout": {"classes": "outer"}}


def asked(client: TestClient, work: Work) -> tuple[str, str, str]:
    """Send an upload that cannot be read; return its dataset, ingest job and training job."""
    files = {"file": ("pets.zip", zipped())}
    training = client.post("/finetune", files=files, data=config(name_encoding="gbk")).json()
    reading = work.claim()
    error = LayoutAmbiguous("two ways").to_dict()
    work.do(leases.fail, reading, error)
    return training["dataset"].partition("@")[0], reading[0], training["id"]


@pytest.fixture
def work(resources: Resources) -> Work:
    return Work(resources)


def test_an_answer_queues_what_had_failed(client: TestClient, work: Work) -> None:
    dataset, reading, training = asked(client, work)
    assert client.get(f"/jobs/{training}").json()["state"] == "failed"
    taken = client.post(f"/datasets/{dataset}/answers", json=OUTER)
    assert (taken.status_code, taken.json()["id"]) == (202, reading)
    states = {job: client.get(f"/jobs/{job}").json() for job in (reading, training)}
    assert [job["state"] for job in states.values()] == ["queued", "waiting"]
    assert all(job["error"] is None for job in states.values())
    assert client.get(f"/datasets/{dataset}").json()["state"] == "ingesting"
    with work.look() as session:
        known = session.get_one(Job, reading).config["answers"]
    assert known == {"name_encoding": "gb18030", **OUTER}
    twice = client.post(f"/datasets/{dataset}/answers", json=OUTER)
    assert (twice.status_code, twice.json()["code"]) == (409, "state_conflict")


def test_an_answer_that_is_sent_again_is_answered_alike(client: TestClient, work: Work) -> None:
    dataset, *_ = asked(client, work)
    key = {"Idempotency-Key": "once"}
    first = client.post(f"/datasets/{dataset}/answers", json=OUTER, headers=key)
    again = client.post(f"/datasets/{dataset}/answers", json=OUTER, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"layout": "sideways"}, "layout.classes"),
        ({"lay_out": "outer"}, "lay_out"),
        ({"name_encoding": "klingon"}, "name_encoding"),
        ({}, "layout"),
        ({"layout": {}}, "layout"),
    ],
)
def test_no_answer_is_refused(
    client: TestClient, work: Work, body: dict[str, Any], param: str
) -> None:
    dataset, reading, _ = asked(client, work)
    answer = client.post(f"/datasets/{dataset}/answers", json=body)
    assert (answer.status_code, answer.json()["param"]) == (422, param), answer.text
    assert client.get(f"/jobs/{reading}").json()["state"] == "failed"


def test_a_dataset_that_is_not_there_takes_no_answer(client: TestClient, dataset: Dataset) -> None:
    answer = client.post("/datasets/ds_0000000000000000000000/answers", json=OUTER)
    assert (answer.status_code, answer.json()["code"]) == (404, "dataset_not_found")
    ready = client.post(f"/datasets/{dataset.id}/answers", json=OUTER)
    assert (ready.status_code, ready.json()["code"]) == (409, "state_conflict")


def test_an_upload_waits_for_an_answer_as_long_as_uploads_do(
    client: TestClient, work: Work, resources: Resources
) -> None:
    dataset, reading, _ = asked(client, work)
    (upload,) = (key for key in content.stored(resources) if key.startswith("uploads/"))
    resumable.tidy(resources)
    garbage.collect(resources, 0.0)
    with work.look() as session:
        assert usage.of(session, DEFAULT_OWNER).datasets == len(zipped())
    assert upload in content.stored(resources)
    with resources.database.write() as session:
        job = jobs.get(session, reading)
        job.finished_at = float(job.finished_at or 0) - resources.settings.upload_hours * 3600
    resumable.tidy(resources)
    garbage.collect(resources, 0.0)
    assert upload not in content.stored(resources)
    with work.look() as session:
        assert usage.of(session, DEFAULT_OWNER).datasets == 0
    late = client.post(f"/datasets/{dataset}/answers", json=OUTER)
    assert (late.status_code, late.json()["code"]) == (404, "upload_not_found")
    assert "Send the images again" in late.json()["hint"]
