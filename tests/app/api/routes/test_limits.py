"""How much one key, address or owner may: requests, jobs, bytes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.api.main import create_app
from app.asgi.rate_limit import Buckets, subscriber
from core.domain import exports, jobs, keys, registry, usage
from core.store.db import Database
from core.store.resources import Resources, open_resources
from core.store.row_access import Caller
from core.system.settings import Settings
from tests.app.apiclient import local_client, publish_model, zipped
from tests.backends import on_postgres
from tests.waiting import wait_for
from topwork.errors import QueueFull, TooManyRequests
from topwork.kinds import ExportFormat

ANNA = Caller("anna", frozenset({"train"}))
TUS = {"Tus-Resumable": "1.0.0"}


def test_a_bucket_runs_dry_and_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("app.asgi.rate_limit.time.monotonic", lambda: now)
    buckets = Buckets(per_minute=60)
    for _ in range(10):
        buckets.take("a")
    with pytest.raises(TooManyRequests) as caught:
        buckets.take("a")
    assert caught.value.retry_after == 1
    buckets.take("b")
    now = 1.0
    buckets.take("a")
    with pytest.raises(TooManyRequests):
        buckets.take("a")
    now = 1000.0
    for _ in range(10):
        buckets.take("a")
    with pytest.raises(TooManyRequests):
        buckets.take("a")


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_a_subscriber_of_ipv6_is_a_network(address: str, stands_for: str) -> None:
    assert subscriber(address) == stands_for


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.asgi.rate_limit.MOST_NAMES", 5)
    buckets = Buckets(per_minute=60)
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets._levels) == 5
    for _ in range(1000):
        Buckets(per_minute=0).take("a")


@pytest.mark.parametrize("limit", ["key_requests_per_minute", "address_requests_per_minute"])
def test_too_many_requests_are_429(settings: Settings, limit: str) -> None:
    update = {"admin_key": SecretStr("long-and-random"), limit: 30}
    with local_client(create_app(settings.model_copy(update=update))) as client:
        client.headers["Authorization"] = "Bearer long-and-random"
        codes = [client.get("/jobs").status_code for _ in range(7)]
        answer = client.get("/jobs")
        assert client.get("/healthz").status_code == 200
    assert codes == [200] * 5 + [429] * 2
    assert answer.json()["code"] == "too_many_requests"
    assert 0 < int(answer.headers["Retry-After"]) <= 2


def test_this_machine_without_a_key_is_not_counted(settings: Settings) -> None:
    update = {"key_requests_per_minute": 1, "address_requests_per_minute": 1}
    with local_client(create_app(settings.model_copy(update=update))) as client:
        assert [client.get("/jobs").status_code for _ in range(5)] == [200] * 5


def test_one_owner_does_not_fill_the_queue(settings: Settings, resources: Resources) -> None:
    with resources.database.write() as session:
        key = {
            owner: keys.create(
                session, owner=owner, scopes=["admin" if owner == "root" else "train"]
            )[1]
            for owner in ("root", "anna", "ben")
        }
    with resources.database.write(ANNA) as session:
        jobs.submit(session, kind="finetune", config={}, waits=True)
        jobs.submit(session, kind="finetune", config={})
    small = settings.model_copy(update={"max_queued_jobs_per_owner": 3, "max_queued_jobs": 5})
    with local_client(create_app(small)) as client:

        def post(owner: str) -> tuple[int, str | None]:
            client.headers["Authorization"] = f"Bearer {key[owner]}"
            answer = client.post("/datasets", files={"file": ("x.zip", zipped())})
            return answer.status_code, answer.json().get("code")

        assert post("anna") == (202, None)
        assert post("anna") == (429, "queue_full")
        told = client.get("/usage").json()
        assert (told["queued_jobs"], told["max_queued_jobs"]) == (3, 3)
        assert [post("ben")[0] for _ in range(3)] == [202, 202, 429]
        assert post("root") == (429, "queue_full")


def test_no_way_around_the_limit_of_jobs_that_wait(settings: Settings) -> None:
    small = settings.model_copy(update={"max_queued_jobs_per_owner": 1})
    with local_client(create_app(small)) as client:

        def submit() -> str:
            answer = client.post("/datasets", files={"file": ("x.zip", zipped())})
            assert answer.status_code == 202, answer.text
            return f"/jobs/{answer.json()['id']}"

        def refused(way: str) -> bool:
            answer = client.post(way)
            return (answer.status_code, answer.json().get("code")) == (429, "queue_full")

        paused = submit()
        assert client.post(f"{paused}/pause").json()["state"] == "paused"
        assert client.post("/datasets", files={"file": ("x.zip", zipped())}).status_code == 429
        assert client.post(f"{paused}/resume").json()["state"] == "queued"
        assert client.post(f"{paused}/cancel").json()["state"] == "cancelled"
        cancelled = submit()
        assert client.post(f"{cancelled}/cancel").json()["state"] == "cancelled"
        waiting = submit()
        assert refused(f"{cancelled}/retry")
        assert client.post(f"{waiting}/resume").status_code == 200  # It waits already.


def test_what_rested_while_others_came_waits_for_its_place(
    settings: Settings, resources: Resources
) -> None:
    small = settings.model_copy(update={"max_queued_jobs_per_owner": 1})
    with resources.database.write() as session:
        first, second = (jobs.submit(session, kind="finetune", config={}).id for _ in range(2))
        jobs.pause(session, first)
    with local_client(create_app(small)) as client:
        answer = client.post(f"/jobs/{first}/resume")
        assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
        client.post(f"/jobs/{second}/cancel")
        assert client.post(f"/jobs/{first}/resume").json()["state"] == "queued"


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_limit_holds_for_all_who_come_at_once(
    settings: Settings, database: str, request: pytest.FixtureRequest
) -> None:
    """Each asks with connections of its own, as the processes of a service do."""
    if database == "postgres":
        settings = on_postgres(settings, request.getfixturevalue("postgres"))
    small = settings.model_copy(update={"max_queued_jobs_per_owner": 3})
    together = threading.Barrier(8)

    def submit(number: int) -> bool:
        with closing(Database(settings.database_url)) as own:
            together.wait()
            try:
                with own.write(ANNA) as session:
                    usage.check_queue(session, small, ANNA.owner)
                    jobs.submit(session, kind="finetune", config={"number": number})
            except QueueFull:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(submit, range(8))) == 3


def test_an_order_of_an_export_waits_in_line_before_it_holds_its_model(
    settings: Settings, postgres: str
) -> None:
    """Else whoever is in line and then asks for the model waits for one who waits for the line."""
    settings = on_postgres(settings, postgres)
    with open_resources(settings, doorbell=lambda _: None) as resources:
        publish_model(resources)

        def order() -> None:
            with resources.database.write() as session:
                version = registry.version(session, "pets", 1)
                exports.order(session, settings, version, ExportFormat.ONNX)

        with ThreadPoolExecutor(1) as pool:
            with resources.database.write() as session:
                usage.in_line(session)
                ordered = pool.submit(order)
                wait_for(lambda: _waiting(resources))
                session.execute(text("SET LOCAL lock_timeout = '2s'"))
                assert registry.get(session, "pets", lock=True).name == "pets"
            ordered.result(30)


def _waiting(resources: Resources) -> bool:
    """Tell whether somebody waits for a lock of this database."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    with resources.database.engine.connect() as connection:
        return connection.execute(text(waiting)).first() is not None
