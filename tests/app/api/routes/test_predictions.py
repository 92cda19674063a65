"""`/predictions` against a real database and storage; what workers do is done by the tests."""

import csv
import io
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api import batch_prediction
from app.api.main import create_app
from core.domain import jobs, leases, predictions, usage
from core.ops import garbage
from core.store.resources import Resources
from core.store.tables import Dataset
from core.system.settings import Settings
from tests.app.apiclient import Work, file_facts, local_client, publish_model, zipped
from topwork.errors import IntegrityError

RANKED = [
    {"label": "cat", "index": 0, "confidence": 0.75},
    {"label": "dog", "index": 1, "confidence": 0.25},
]
LINES: list[dict[str, Any]] = [
    {
        "index": 0, "path": "=cmd|' /C calc'!A1.png", "sha256": "ab", "split": "val",
        "class": "+dog", "status": "ok", "decision": "abstain", "reason": "unknown",
        "label": "cat", "confidence": 0.75, "similarity": 0.5,
        "predictions": RANKED, "class_index": 1, "class_confidence": 0.25,
    },
    {
        "index": 1, "path": 'b,"\n.png', "sha256": None, "split": None, "class": None,
        "status": "error", "error": {"code": "image_undecodable", "message": "No."},
    },
]  # fmt: skip


@pytest.fixture(autouse=True)
def model(resources: Resources) -> str:
    version = publish_model(resources)
    return f"{version.name}@{version.number}"


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/predictions", json={"model": "pets", **body})


def keep(resources: Resources, work: Work, *, succeed: bool = True) -> str:
    """Claim the job, store its answers as a worker does, and end it."""
    job_id, fence = work.claim()
    with resources.database.read() as session:
        prefix = predictions.prefix(jobs.get(session, job_id))
    text = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    scores = json.dumps({"val": {"images": 1, "accuracy": 0.0}}).encode()
    sizes = {predictions.ANSWERS: text, predictions.EVALUATION: scores}
    for name, content in sizes.items():
        resources.storage.put_bytes(f"{prefix}/{name}", content)
    files = {name: file_facts(content) for name, content in sizes.items()}
    if succeed:
        work.do(leases.succeed, (job_id, fence), {"metrics": {"val": {}}, "files": files})
    else:
        work.do(leases.keep, (job_id, fence), {predictions.ANSWERS: files[predictions.ANSWERS]})
        work.do(leases.fail, (job_id, fence), {"code": "integrity", "message": "No."})
    return job_id


def test_a_dataset_is_asked_about_with_the_version_that_the_name_means_now(
    client: TestClient, dataset: Dataset, model: str
) -> None:
    answer = ask(client, dataset=dataset.id, split="val", top_k=3, metadata={"a": "b"})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["dataset"]) == ("predict", "queued", f"{dataset.id}@1")
    config = {"model": model, "split": "val", "top_k": 3, "name_encoding": None, "reject": "auto"}
    assert job["config"] == config
    assert job["links"]["results"] == f"/predictions/{job['id']}/results"


def test_an_archive_and_a_version_to_evaluate(client: TestClient, dataset: Dataset) -> None:
    form = {"model": "pets", "top_k": "2"}
    sent = client.post("/predictions", files={"file": ("x.zip", zipped())}, data=form)
    assert sent.status_code == 202, sent.text
    assert sent.json()["config"]["bytes"] == len(zipped())
    path = "/models/pets/versions/1/evaluations"
    measured = client.post(path, json={"dataset": f"{dataset.id}@1", "split": "val"})
    assert measured.status_code == 202, measured.text
    assert measured.json()["config"]["model"] == "pets@1"
    key = {"Idempotency-Key": "once"}
    first, again = (
        client.post(path, json={"dataset": dataset.id}, headers=key).json()["id"] for _ in range(2)
    )
    assert first == again


def test_answers_come_as_ndjson_and_as_a_table_without_formulas(
    client: TestClient, resources: Resources, work: Work, dataset: Dataset
) -> None:
    ask(client, dataset=dataset.id, top_k=2)
    job = keep(resources, work)
    told = client.get(f"/predictions/{job}/results")
    assert [json.loads(line) for line in told.text.splitlines()] == LINES
    table = client.get(f"/predictions/{job}/results?as=csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    first, second = rows
    assert first["path"] == "'=cmd|' /C calc'!A1.png"
    assert (first["class"], first["label"], first["confidence"]) == ("'+dog", "cat", "0.75")
    assert (first["decision"], first["reason"], first["similarity"]) == (
        "abstain",
        "unknown",
        "0.5",
    )
    assert (second["decision"], second["reason"]) == ("", "")
    assert (first["label_2"], first["confidence_2"]) == ("dog", "0.25")
    assert (second["path"], second["error_code"]) == ('b,"\n.png', "image_undecodable")
    scores = client.get(f"/predictions/{job}/evaluation").json()
    assert scores["splits"]["val"]["accuracy"] == 0.0
    used = client.get("/usage").json()["bytes_by_kind"]["predictions"]
    assert used > len(told.content)


def test_answers_stay_as_long_as_their_job(
    client: TestClient, resources: Resources, work: Work
) -> None:
    sent = client.post(
        "/predictions", files={"file": ("x.zip", zipped())}, data={"model": "pets"}
    ).json()
    job = keep(resources, work, succeed=False)
    assert job == sent["id"]
    assert garbage.collect(resources, 0.0) == []  # A retry needs the upload.
    assert client.get(f"/predictions/{job}/results").status_code == 200
    told = client.get(f"/predictions/{job}/results")
    used = client.get("/usage").json()["bytes_by_kind"]["predictions"]
    assert used == len(zipped()) + len(told.content)
    assert client.delete(f"/jobs/{job}").status_code == 204
    storage = resources.storage
    assert storage.list("predictions") == storage.list("uploads") == []


def test_damaged_answers_are_not_sent(
    client: TestClient, resources: Resources, work: Work, dataset: Dataset
) -> None:
    ask(client, dataset=dataset.id, top_k=2)
    job = keep(resources, work)
    for key in resources.storage.list("predictions"):
        resources.storage.put_bytes(key, b'{"val')
    for path in ("results", "results?as=csv", "evaluation"):
        answer = client.get(f"/predictions/{job}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (IntegrityError.status, "integrity")


def test_answers_of_a_dataset_need_room(
    settings: Settings, resources: Resources, dataset: Dataset
) -> None:
    with resources.database.read() as session:
        most = usage.of(session, dataset.owner).stored + 100
    with local_client(
        create_app(settings.model_copy(update={"max_bytes_per_owner": most}))
    ) as limited:
        answer = ask(limited, dataset=dataset.id)
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")


def test_a_table_comes_in_as_many_texts_as_its_answers() -> None:
    """Each text is a change of threads for whoever sends it."""
    lines = "".join(json.dumps(line) + "\n" for line in LINES * 50).encode()
    pieces = [lines[start : start + 1000] for start in range(0, len(lines), 1000)]
    texts = list(batch_prediction.table(pieces, 2))
    assert len(texts) <= len(pieces) + 1
    rows = list(csv.DictReader(io.StringIO("".join(texts), newline="")))
    assert [row["status"] for row in rows] == ["ok", "error"] * 50


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 422, "invalid_field", "dataset"),
        ({"dataset": "{ds}", "upload": "up_" + "0" * 22}, 422, "invalid_field", "upload"),
        ({"upload": "up_" + "0" * 22}, 404, "upload_not_found", "upload"),
        ({"upload": "up_" + "0" * 22, "split": "val"}, 422, "invalid_field", "split"),
        ({"dataset": "ds_" + "0" * 22}, 404, "dataset_not_found", None),
        ({"dataset": "{ds}@7"}, 404, "dataset_not_found", None),
        ({"dataset": "{ds}", "model": "petz"}, 404, "model_not_found", "model"),
        ({"dataset": "{ds}", "top": 3}, 422, "invalid_field", "top"),
        ({"dataset": "{ds}", "reject": "always"}, 422, "invalid_field", "reject"),
        ({"dataset": "{ds}", "reject": 0.995}, 422, "invalid_field", "reject"),
        ({"dataset": "{ds}", "reject": 0.9}, 422, "rejection_unavailable", "reject"),
        (
            {"dataset": "{ds}", "reject": 0.9, "model": "mobilenet_v2"},
            422,
            "rejection_unavailable",
            "reject",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_hint(
    client: TestClient, dataset: Dataset, body: dict[str, Any], status: int, code: str, param: Any
) -> None:
    filled = {name: str(it).replace("{ds}", dataset.id) for name, it in body.items()}
    answer = ask(client, **filled)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), told
    assert told["hint"] or told["errors"] or status == 404
    if param:
        assert param in (told["param"], *(one["param"] for one in told.get("errors") or []))


def test_a_share_that_the_model_can_promise(
    client: TestClient, resources: Resources, dataset: Dataset
) -> None:
    publish_model(resources, name="careful", more={"rejection": {"images": 60, "reason": None}})
    answer = ask(client, model="careful", dataset=dataset.id, reject=0.9)
    assert answer.json()["config"]["reject"] == 0.9, answer.text
    form = {"model": "careful", "reject": "0.8"}
    sent = client.post("/predictions", files={"file": ("x.zip", zipped())}, data=form)
    assert sent.json()["config"]["reject"] == 0.8, sent.text
    refused = ask(client, model="careful", dataset=dataset.id, reject=0.98).json()
    assert refused["code"] == "rejection_unavailable"
    assert "60 images" in refused["detail"]


def test_there_are_no_answers_yet_or_never_any(
    client: TestClient, dataset: Dataset, work: Work
) -> None:
    job = ask(client, dataset=dataset.id).json()["id"]
    early = client.get(f"/predictions/{job}/results")
    assert (early.status_code, early.json()["code"]) == (409, "state_conflict")
    client.post(f"/jobs/{job}/cancel")
    assert client.get(f"/predictions/{job}/results").status_code == 404
    assert client.get(f"/predictions/{job}/evaluation").status_code == 404
    other = work.submit()
    assert client.get(f"/predictions/{other}/results").json()["code"] == "job_not_found"
