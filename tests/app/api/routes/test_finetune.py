import hashlib
import io
import json
import shlex
import subprocess
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from app.api import finetuning
from app.api.main import create_app
from core.domain import registry
from core.store.resources import Resources
from core.store.tables import Dataset, IdempotencyKey, Job
from core.system.settings import Settings
from tests.app.apiclient import (
    config,
    local_client,
    png,
    publish_model,
    two_classes,
    zipped,
)


def rows(resources: Resources, table: type) -> list[Any]:
    with resources.database.read() as session:
        return list(session.scalars(select(table)))


def send(client: TestClient, **fields: Any) -> Any:
    return client.post("/finetune", files={"file": ("Pets.zip", zipped())}, data=config(**fields))


def test_one_request_from_zip_to_job(client: TestClient, resources: Resources) -> None:
    options: dict[str, Any] = {"seed": 7, "split": {"val": 0.3}, "metadata": {"ticket": "42"}}
    answer = send(client, **options, priority="high")
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["Location"] == f"/jobs/{body['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert (body["kind"], body["state"], body["model"]) == ("finetune", "waiting", "pets")
    assert body["metadata"] == {"ticket": "42"}
    ingest, finetune = sorted(rows(resources, Job), key=lambda job: job.kind, reverse=True)
    assert (ingest.kind, ingest.state) == ("ingest", "queued")
    split = {"val": 0.3, "test": 0.0, "group_by": "near_duplicates", "seed": 7}
    split |= {"group_pattern": None, "group_column": None}
    sha256 = hashlib.sha256(zipped()).hexdigest()
    assert ingest.config == {"split": split, "bytes": len(zipped()), "sha256": sha256}
    assert finetune.config["name"] == "pets"
    assert finetune.config["architecture"] == "lenet"
    assert "dataset" not in finetune.config
    (dataset,) = rows(resources, Dataset)
    assert dataset.job_id == ingest.id
    assert dataset.id == ingest.dataset_id == finetune.dataset_id
    assert resources.storage.get_bytes(dataset.upload) == zipped()
    assert client.get(answer.headers["Location"]).json()["id"] == body["id"]
    assert list((resources.settings.data_dir / "tmp").iterdir()) == []


def test_many_files_become_one_tar(client: TestClient, resources: Resources) -> None:
    files = {**two_classes(), "dog/größer " + "x" * 120 + ".png": png(), "cat/empty.png": b""}
    parts = [("file", (name, data)) for name, data in files.items()]
    answer = client.post("/finetune", files=parts, data=config(name="many"))
    assert answer.status_code == 202, answer.text
    (dataset,) = rows(resources, Dataset)
    with tarfile.open(fileobj=io.BytesIO(resources.storage.get_bytes(dataset.upload))) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found == files


def test_a_dataset_by_name_is_planned_at_once(client: TestClient, dataset: Dataset) -> None:
    body = {"dataset": f"{dataset.id}@1", "architecture": "lenet", "name": "own"}
    job = client.post("/finetune", json=body).json()
    assert (job["state"], job["dataset"], job["queue_position"]) == ("queued", f"{dataset.id}@1", 0)
    assert job["plan"]["weights"]["value"] == "none"
    assert job["plan"]["epochs"]["reason"]


def test_a_job_may_wait_for_a_dataset_that_is_still_read(client: TestClient) -> None:
    first = send(client).json()
    body = {"dataset": first["dataset"], "architecture": "lenet"}
    assert client.post("/finetune", json=body).json()["state"] == "waiting"


def test_a_failed_dataset_is_refused(client: TestClient, resources: Resources) -> None:
    first = send(client).json()
    with resources.database.write() as session:
        error = {"code": "too_few_classes", "message": "one class only"}
        session.execute(update(Dataset).values(state="failed", error=error))
    answer = client.post("/finetune", json={"dataset": first["dataset"], "architecture": "lenet"})
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_invalid")
    assert "one class only" in answer.json()["detail"]


def test_a_dry_run_plans_an_archive_and_stores_nothing(
    client: TestClient, resources: Resources
) -> None:
    files = {**two_classes(), "cat/.DS_Store": b"x", "notes.txt": b"hello"}
    answer = client.post(
        "/finetune?dry_run=true",
        files={"file": ("Pets.zip", zipped(files))},
        data=config(split={"val": 0.2, "test": 0.2}),
    )
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert plan["classes"] == ["cat", "dog"]
    assert plan["counts"] == {name: {"cat": n, "dog": n} for name, n in
                              (("train", 3), ("val", 1), ("test", 1))}  # fmt: skip
    assert plan["plan"]["epochs"]["value"] >= 1
    assert plan["eta"] > 0
    assert plan["skipped"] == {"system_file": 1, "not_an_image": 1}
    assert plan["name"] == "pets"
    assert rows(resources, Job) == rows(resources, Dataset) == []
    assert resources.storage.list("uploads") == []


def test_a_dry_run_plans_a_dataset(client: TestClient, dataset: Dataset) -> None:
    body = {"dataset": dataset.id, "architecture": "lenet"}
    plan = client.post("/finetune?dry_run=true", json=body).json()
    assert plan["counts"]["val"] == {"cat": 2, "dog": 2}


def test_going_on_from_a_model_keeps_its_image_size(
    client: TestClient, dataset: Dataset, resources: Resources
) -> None:
    publish_model(resources, "parent")
    body = {"dataset": dataset.id, "architecture": "resnet18", "weights": "model:parent"}
    dry = client.post("/finetune?dry_run=true", json=body).json()
    job = client.post("/finetune", json=body).json()
    assert dry["plan"]["image_size"] == job["plan"]["image_size"]
    assert dry["plan"]["image_size"]["value"] == 32
    assert job["config"]["weights"] == "model:parent@1"  # Whatever the name may mean later.
    upload = {"architecture": "resnet18", "weights": "model:parent"}
    file = {"file": ("x.zip", zipped(two_classes()))}
    archive = client.post("/finetune?dry_run=true", files=file, data=config(**upload)).json()
    assert archive["plan"]["image_size"]["value"] == 32


def test_a_request_is_read_once_and_planned_once_with_and_once_without_its_data(
    client: TestClient, dataset: Dataset, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_model(resources, "parent")
    calls: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    count(finetuning, "read_request")
    count(finetuning, "plan_of")
    count(registry, "resolve")
    body = {"architecture": "resnet18", "weights": "model:parent"}
    assert client.post("/finetune", json={**body, "dataset": dataset.id}).status_code == 202
    assert calls == {"read_request": 1, "plan_of": 2, "resolve": 1}
    calls.clear()
    assert send(client, **body).status_code == 202
    assert calls == {"read_request": 1, "plan_of": 1, "resolve": 1}


def test_a_form_whose_weights_are_missing_is_refused_before_its_files(client: TestClient) -> None:
    """The part behind the config has no end, so nothing of it can have been read."""
    wanted = json.dumps({"architecture": "squeezenet1_1", "strategy": "head"})
    field = f'--b\r\nContent-Disposition: form-data; name="config"\r\n\r\n{wanted}\r\n--b\r\nwrong'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    problem = client.post("/finetune", content=field.encode(), headers=headers).json()
    assert problem["code"] == "weights_unavailable_offline"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"cat/1.png": png()}, "too_few_classes"),
        ({"a.txt": b"x"}, "dataset_invalid"),
        ({"train/cat/1.png": png(), "other/2.png": png()}, "layout_ambiguous"),
    ],
)
def test_a_dry_run_says_what_the_ingestion_would(
    client: TestClient, files: dict[str, bytes], code: str
) -> None:
    answer = client.post(
        "/finetune?dry_run=1", files={"file": ("x.zip", zipped(files))}, data=config()
    )
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize(
    ("fields", "param", "hint"),
    [
        ({"architecture": "resnet51"}, "architecture", "resnet50"),
        ({"architecture": "../../x"}, "architecture", None),
        ({"learning_rate": 0.1}, "learning_rate", "hyperparameters.learning_rate"),
        ({"epoch": 3}, "epoch", "hyperparameters.epochs"),
        ({"strategi": "head"}, "strategi", "strategy"),
        ({"hyperparameters": {"epoch": 3}}, "hyperparameters.epoch", "epochs"),
        ({"hyperparameters": {"epochs": 0}}, "hyperparameters.epochs", None),
        ({"hyperparameters": {"epochs": 2**63}}, "hyperparameters.epochs", None),
        ({"early_stopping": {"patiense": 3}}, "early_stopping.patiense", "patience"),
        ({"split": {"val": 0.6, "test": 0.5}}, "split", None),
        ({"name": "Not A Name"}, "name", None),
        ({"name": "resnet50"}, "name", "another name"),
        ({"dataset": "ds_x"}, "dataset", None),
        ({"priority": "urgent"}, "priority", None),
        ({"metadata": {"a": [1]}}, "metadata", None),
        ({"architecture": "lenet", "weights": "imagenet"}, "weights", None),
        ({"architecture": "resnet18", "strategy": "full"}, "weights", "topwork weights add"),
    ],
)
def test_a_wrong_field_is_named(
    client: TestClient, resources: Resources, fields: dict[str, Any], param: str, hint: str | None
) -> None:
    answer = send(client, **fields)
    problem = answer.json()
    assert answer.status_code == 422, problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["param"].startswith(param), problem
    if hint:
        assert hint in problem["hint"], problem
    assert rows(resources, Job) == []
    assert resources.storage.list("uploads") == []
    assert list((resources.settings.data_dir / "tmp").iterdir()) == []


def test_the_command_of_the_hint_brings_the_weights_to_this_service(
    client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    import torchvision  # noqa: PLC0415 - it costs seconds that the other tests need not wait.
    from safetensors.torch import save_file  # noqa: PLC0415 - as above.

    wanted = {"architecture": "squeezenet1_1", "strategy": "head"}
    hint = send(client, **wanted).json()["hint"]
    file = tmp_path / "fetched.safetensors"
    save_file(torchvision.models.squeezenet1_1().state_dict(), file)
    words = [
        str(file) if word.endswith(".pth") else word for word in shlex.split(hint.split("`")[1])
    ]
    added = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert added.returncode == 0, added.stderr
    assert (settings.weights_dir / "squeezenet1_1.safetensors").is_file()
    assert send(client, **wanted).status_code == 202


def test_every_wrong_field_is_listed(client: TestClient) -> None:
    problem = send(client, sed=1, hyperparameters={"epochs": -1}, name="A").json()
    assert {error["param"] for error in problem["errors"]} == {
        "sed", "hyperparameters.epochs", "name",
    }  # fmt: skip
    assert {error["param"]: error["hint"] for error in problem["errors"]}["sed"]


def test_a_split_belongs_to_an_upload(client: TestClient, dataset: Dataset) -> None:
    body = {"dataset": dataset.id, "architecture": "lenet", "split": {"val": 0.5}}
    problem = client.post("/finetune", json=body).json()
    assert (problem["status"], problem["param"]) == (422, "split")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_request"),
        (b"[]", 400, "malformed_request"),
        (b'{"seed": NaN}', 400, "malformed_request"),
        (b'{"seed": Infinity}', 400, "malformed_request"),
        (b'{"seed": 1e999}', 400, "malformed_request"),
        (b'{"seed": 1, "seed": 2}', 400, "malformed_request"),
        (b'{"name": "\\ud800"}', 400, "malformed_request"),
        (b'{"name": "\\u0000"}', 400, "malformed_request"),
        (b"\xff\xfe{}", 400, "malformed_request"),
        (b"[" * 100_00 + b"]" * 100_00, 400, "malformed_request"),
        (b'{"a":' * 60 + b"1" + b"}" * 60, 400, "malformed_request"),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400, "malformed_request"),
        (b'"' + b"x" * 70_000 + b'"', 413, "request_too_large"),
        (b"", 400, "malformed_request"),
    ],
)
def test_a_body_that_is_no_good_json(
    client: TestClient, body: bytes, status: int, code: str
) -> None:
    answer = client.post("/finetune", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_another_content_type_is_refused(client: TestClient) -> None:
    answer = client.post("/finetune", content=b"<x/>", headers={"Content-Type": "text/xml"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "multipart/form-data" in answer.json()["hint"]


def test_the_queue_has_an_end(settings: Settings) -> None:
    short = settings.model_copy(update={"max_queued_jobs": 2})
    with local_client(create_app(short)) as client:
        assert send(client).status_code == 202
        answer = send(client)
        assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
        assert int(answer.headers["Retry-After"]) > 0


class TestIdempotency:
    def test_the_same_request_has_one_effect(
        self, client: TestClient, resources: Resources
    ) -> None:
        client.headers["Idempotency-Key"] = "k1"
        first, second = send(client), send(client)
        assert first.status_code == second.status_code == 202
        assert first.json() == second.json()
        assert first.headers["Location"] == second.headers["Location"]
        assert "Idempotent-Replayed" not in first.headers
        assert second.headers["Idempotent-Replayed"] == "true"
        assert len(rows(resources, Job)) == 2
        assert len(resources.storage.list("uploads")) == 1

    def test_another_request_is_refused(self, client: TestClient, dataset: Dataset) -> None:
        client.headers["Idempotency-Key"] = "k1"
        body = {"dataset": dataset.id, "architecture": "lenet"}
        assert client.post("/finetune", json=body).status_code == 202
        answer = client.post("/finetune", json={**body, "seed": 3})
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")

    def test_a_refused_request_leaves_the_key_free(
        self, client: TestClient, dataset: Dataset
    ) -> None:
        client.headers["Idempotency-Key"] = "k1"
        body = {"dataset": dataset.id, "architecture": "lenet"}
        assert client.post("/finetune", json={**body, "seed": "x"}).status_code == 422
        missing = {**body, "dataset": dataset.id[:-4] + "zzzz"}
        assert client.post("/finetune", json=missing).status_code == 404
        assert client.post("/finetune", json=body).status_code == 202

    def test_a_day_later_the_key_is_new(self, client: TestClient, resources: Resources) -> None:
        client.headers["Idempotency-Key"] = "k1"
        first = send(client).json()
        with resources.database.write() as session:
            session.execute(
                update(IdempotencyKey).values(created_at=IdempotencyKey.created_at - 86_401)
            )
        assert send(client).json()["id"] != first["id"]

    def test_the_same_request_twice_at_once(self, client: TestClient, resources: Resources) -> None:
        client.headers["Idempotency-Key"] = "k1"
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: send(client), range(8)))
        assert {answer.status_code for answer in answers} <= {202, 409}
        made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        assert len(made) == 1
        assert len(rows(resources, Job)) == 2
        assert len(resources.storage.list("uploads")) == 1

    def test_a_request_under_way_is_waited_for(self, client: TestClient, dataset: Dataset) -> None:
        client.app.state.in_flight.add("default/k1")  # type: ignore[attr-defined]
        body = {"dataset": dataset.id, "architecture": "lenet"}
        answer = client.post("/finetune", json=body, headers={"Idempotency-Key": "k1"})
        assert (answer.status_code, answer.json()["code"]) == (409, "request_in_flight")
        assert "Retry-After" in answer.headers


def test_the_job_is_committed_before_it_is_answered(
    client: TestClient, dataset: Dataset, resources: Resources
) -> None:
    """The transaction ends inside the request: a failing commit is no 202."""
    seen: list[int] = []
    send_body = json.dumps({"dataset": dataset.id, "architecture": "lenet"}).encode()
    app = client.app

    async def spying(scope: Any, receive: Any, send: Any) -> None:
        async def look(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen.append(len(rows(resources, Job)))
            await send(message)

        await app(scope, receive, look)

    spy = TestClient(spying, base_url="http://127.0.0.1", client=("127.0.0.1", 5))
    answer = spy.post("/finetune", content=send_body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202
    assert seen == [1]
