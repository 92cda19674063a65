from sqlalchemy import select
from starlette.testclient import TestClient

from core.resources import Resources
from core.tables import Dataset, Job
from tests.app.api import config, zipped


def rows(resources: Resources, table: type) -> list:
    with resources.database.read() as session:
        return list(session.scalars(select(table)))


def test_one_request_from_zip_to_job(client: TestClient, resources: Resources) -> None:
    answer = client.post(
        "/finetune",
        files={"file": ("Pets.zip", zipped())},
        data=config(seed=7, split={"val": 0.3}, metadata={"ticket": "42"}, priority="high"),
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["Location"] == f"/jobs/{body['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert (body["kind"], body["state"], body["model"]) == ("finetune", "waiting", "pets")
    assert body["metadata"] == {"ticket": "42"}
    ingest, finetune = sorted(rows(resources, Job), key=lambda job: job.kind, reverse=True)
    assert (ingest.kind, ingest.state) == ("ingest", "queued")
    assert ingest.config == {"split": {"val": 0.3, "test": 0.0, "seed": 7}}
    assert finetune.config["name"] == "pets"
    assert finetune.config["architecture"] == "lenet"
    (dataset,) = rows(resources, Dataset)
    assert dataset.job_id == ingest.id
    assert dataset.id == ingest.dataset_id == finetune.dataset_id
    assert resources.storage.get_bytes(dataset.upload) == zipped()
    assert client.get(answer.headers["Location"]).json()["id"] == body["id"]
