import itertools
import json
import re
import time
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api.main import create_app
from app.api.readiness import Readiness
from core.domain import leases, workers
from core.store.resources import Resources
from core.system.settings import Settings
from tests.app.api.routes.predictor import standing_in
from tests.app.apiclient import Work, local_client
from tests.waiting import wait_for
from topwork.kinds import (
    STORED,
    DatasetState,
    Decision,
    EventKind,
    JobKind,
    JobState,
    Lack,
    ModelSource,
    Phase,
    ReportStatus,
    ResultStatus,
    Severity,
    Split,
)

ROOT = Path(__file__).resolve().parents[4]


def test_health(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_head_is_get_without_the_body(client: TestClient) -> None:
    for path in ("/healthz", "/jobs", "/docs", "/nowhere"):
        asked, got = client.head(path), client.get(path)
        assert asked.content == b""
        assert asked.status_code == got.status_code
        assert asked.headers["content-type"] == got.headers["content-type"]


def test_not_ready_without_a_predictor(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert "Retry-After" in answer.headers
    checks = answer.json()["checks"]
    assert (checks["database"], checks["storage"]) == ("ok", "ok")
    assert checks["predictor"] == "no answer: it is away, or starts"


def test_not_ready_without_a_database(settings: Settings) -> None:
    away = settings.model_copy(
        update={"database_url": "postgresql+psycopg://nobody@127.0.0.1:1/none"}
    )
    with local_client(create_app(away)) as client:
        ready = client.get("/readyz")
        jobs = client.get("/jobs")
        assert client.get("/healthz").status_code == 200
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert (jobs.status_code, jobs.json()["code"]) == (503, "unavailable")
    assert "Retry-After" in ready.headers
    assert "Retry-After" in jobs.headers


def test_a_broker_that_is_away_costs_no_job(settings: Settings) -> None:
    away = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    with local_client(create_app(away)) as client, standing_in(settings):
        job = client.post("/jobs/none/cancel")
        ready = client.get("/readyz")
    assert job.status_code == 404
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["checks"]["broker"] != "ok"


def test_queue_and_workers(client: TestClient, work: Work, resources: Resources) -> None:
    assert client.get("/queue").json()["oldest_seconds"] is None
    assert client.get("/workers").json()["data"] == []
    first = work.submit(kind="ingest")
    work.submit()
    work.claim()
    queue = client.get("/queue").json()
    assert queue["states"] == {"queued": 1, "running": 1}
    assert queue["queued"] == {"finetune": 1}
    assert queue["oldest_seconds"] >= 0
    (worker,) = client.get("/workers").json()["data"]
    assert (worker["id"], worker["alive"]) == ("test:1", False)
    assert worker["jobs"][0]["id"] == first
    with resources.database.write() as session:
        workers.seen(session, "idle:1", 2)
    idle, busy = client.get("/workers").json()["data"]
    assert (idle["id"], idle["alive"], idle["slots"], idle["jobs"]) == ("idle:1", True, 2, [])
    assert busy == worker


def test_readiness_is_looked_at_once_for_many(client: TestClient) -> None:
    readiness: Readiness = client.app.state.service.readiness  # type: ignore[attr-defined]
    first = client.get("/readyz")
    looked_until = readiness._fresh_until
    for _ in range(5):
        client.get("/readyz")
    wait_for(lambda: time.monotonic() > looked_until)
    assert readiness._fresh_until == looked_until
    assert client.get("/readyz").json() == first.json()
    assert readiness._fresh_until > looked_until


def test_metrics_are_prometheus_text(client: TestClient, work: Work) -> None:
    work.submit()
    for _ in range(2):
        work.do(leases.crashed, work.claim(), "it fell over", 9)
    work.do(leases.lost, work.claim(), "its worker did", 9)
    client.get("/jobs")
    client.get("/jobs/job_x")
    client.get("/no/such/place")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    assert 'topwork_jobs{kind="finetune",state="queued"} 1.0' in text
    assert 'topwork_job_stalls{kind="finetune",state="queued"} 2.0' in text
    assert 'topwork_job_losses{kind="finetune",state="queued"} 1.0' in text
    for kind, state in itertools.product(JobKind, STORED):  # None of them is a row, too.
        assert f'topwork_jobs{{kind="{kind}",state="{state}"}} ' in text
    assert 'topwork_http_requests_total{method="GET",route="/jobs",status="200"} 1.0' in text
    assert 'route="/jobs/{job_id}",status="404"' in text
    assert "no/such" not in text


class TestProblems:
    def test_nothing_there(self, client: TestClient) -> None:
        answer = client.get("/no/such/place")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json() == {
            "type": "urn:topwork:problem:not_found",
            "title": "There is nothing at this address",
            "status": 404,
            "detail": "There is nothing at this address.",
            "instance": "/no/such/place",
            "code": "not_found",
            "param": None,
            "hint": None,
            "request_id": answer.headers["X-Request-Id"],
            "errors": [],
        }

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", "/jobs/x", {"GET", "DELETE"}),
            ("DELETE", "/jobs", {"GET"}),
            ("PUT", "/datasets", {"GET", "POST"}),
            ("PUT", "/datasets/x/versions", {"GET", "POST"}),
            ("POST", "/models/x/aliases/y", {"GET", "PUT", "DELETE"}),
            ("GET", "/finetune", {"POST"}),
            ("PATCH", "/healthz", {"GET"}),
        ],
    )
    def test_another_method(
        self, client: TestClient, method: str, path: str, allowed: set[str]
    ) -> None:
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) == allowed

    @pytest.mark.parametrize("path", ["/jobs/%00", "/jobs?after=%00", "/models/a%00b"])
    def test_nul_stays_outside(self, client: TestClient, path: str) -> None:
        assert client.get(path).status_code == 400

    def test_odd_addresses(self, client: TestClient) -> None:
        for path in ("/jobs/%ff%fe", "/jobs/" + "x" * 5000, "/models/%F0%9F%90%88", "/jobs/%25"):
            assert client.get(path).status_code in (404, 422), path


class TestDocumentation:
    def test_the_page_needs_nothing_from_elsewhere(self, client: TestClient) -> None:
        assert 'href="/docs"' in client.get("/").text or "/assets/" in client.get("/").text
        page = client.get("/docs").text
        parts = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(parts) == 4
        for part in parts:
            assert part.startswith("/docs/")
            assert client.get(part).status_code == 200, part
        assert not re.search(r"<script>|onload=|style=", page)
        assert '"/openapi.json"' in client.get("/docs/init.js").text

    def test_links_to_the_pages_may_carry_any_query(self, client: TestClient) -> None:
        for path in ("/", "/docs", "/docs/init.js"):
            bare, queried = client.get(path), client.get(f"{path}?utm_source=mail&x")
            assert (queried.status_code, queried.content) == (200, bare.content)
            assert client.head(f"{path}?x").status_code == 200
        assert client.get("/healthz?x=1").status_code == 422

    def test_the_document_is_sound(self, app: FastAPI) -> None:
        document = app.openapi()
        ids = [
            operation["operationId"]
            for path in document["paths"].values()
            for operation in path.values()
        ]
        assert len(ids) == len(set(ids))
        assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in ids)
        text = json.dumps(document)
        assert "HTTPValidationError" not in text
        for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
            found: Any = document
            for step in reference.split("/"):
                found = found[step]

    def test_every_answer_in_json_has_a_shape(self, app: FastAPI) -> None:
        for path, operations in app.openapi()["paths"].items():
            for method, operation in operations.items():
                for status, answer in operation["responses"].items():
                    schema = answer.get("content", {}).get("application/json", {}).get("schema")
                    assert schema is None or "$ref" in schema, f"{method} {path} {status}"

    def test_references_lead_to_whole_schemas(self, app: FastAPI) -> None:
        for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(app.openapi())):
            assert re.fullmatch(r"#/components/(schemas|responses)/\w+", reference)

    @pytest.mark.parametrize("words", [
        DatasetState, Decision, EventKind, JobKind, JobState, Lack, ModelSource, Phase,
        ReportStatus, ResultStatus, Severity, Split,
    ])  # fmt: skip
    def test_the_document_names_what_there_is_and_nothing_else(
        self, app: FastAPI, words: type[StrEnum]
    ) -> None:
        assert app.openapi()["components"]["schemas"][words.__name__]["enum"] == list(words)
        code = "\n".join(
            path.read_text()
            for package in ("app", "core", "models", "worker")
            for path in (ROOT / package).rglob("*.py")
        )
        for word in words:
            assert re.search(rf'\b{words.__name__}\.{word.name}\b|"{word}"', code), word

    def test_bodies_are_described(self, app: FastAPI) -> None:
        paths = app.openapi()["paths"]
        content = lambda path: set(paths[path]["post"]["requestBody"]["content"])  # noqa: E731
        assert content("/finetune") == {"application/json", "multipart/form-data"}
        assert content("/predict") == {"application/json", "multipart/form-data", "image/*"}
        assert content("/datasets") == {"application/json", "multipart/form-data"}
