"""T8 and the api's part of T5: submits that an api's death or a broker's absence interrupts."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select

from core.resources import Resources, open_resources
from core.settings import Settings
from core.tables import Job
from tests.app.api import publish_dataset
from tests.chaos.api_process import api
from tests.chaos.broker import Broker
from tests.chaos.conftest import Tell, times
from tests.invariants import broken

pytestmark = pytest.mark.chaos
SUBMITS, SUBMIT_SECONDS = 20, 1.5


def ordered(resources: Resources) -> list[str]:
    with resources.database.read() as session:
        return list(session.scalars(select(Job.id).where(Job.kind == "finetune")))


@pytest.mark.parametrize("point", ["db.before_ring", "api.before_answer"])
def test_a_submit_whose_answer_was_lost_is_one_job(
    point: str, resources: Resources, tmp_path: Path, tell: Tell
) -> None:
    settings = resources.settings
    dataset = publish_dataset(resources, tmp_path / "pets")
    body = {"dataset": dataset.id, "architecture": "lenet", "weights": "none"}
    for number in range(times(1)):
        key = {"Idempotency-Key": secrets.token_hex(8)}
        with api(settings, f"{point}=kill") as (client, process):
            with pytest.raises(httpx2.TransportError):
                client.post("/finetune", json=body, headers=key)
            assert process.wait(10) == -9
        (job_id,) = ordered(resources)[number:]
        with api(settings) as (client, _):
            first = client.post("/finetune", json=body, headers=key)
            again = client.post("/finetune", json=body, headers=key)
            other = client.post("/finetune", json=body | {"seed": 7}, headers=key)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.headers["Idempotent-Replayed"] == "true"
        assert first.json() == again.json()
        assert first.json()["id"] == job_id
        assert other.status_code == 422
        assert len(ordered(resources)) == number + 1
    assert not broken(resources)
    tell(f"T8 killed at {point}: one job, the same body twice")


def test_submits_do_not_wait_for_a_broker_that_is_away(
    settings: Settings,
    tmp_path: Path,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    broker = Broker(tmp_path)
    settings = Settings(data_dir=settings.data_dir, broker_url=broker.url)
    with open_resources(settings, doorbell=lambda _celery: None) as resources:
        dataset = publish_dataset(resources, tmp_path / "pets")
        body = {"dataset": dataset.id, "architecture": "lenet", "weights": "none"}
        slowest = 0.0
        with api(settings) as (client, _):
            for _ in range(SUBMITS):
                began = time.monotonic()
                assert client.post("/finetune", json=body).status_code == 202
                slowest = max(slowest, time.monotonic() - began)
        assert len(ordered(resources)) == SUBMITS
        assert not broken(resources)
    broker.close()
    tell(f"T5 {SUBMITS} submits over HTTP without a broker: slowest {slowest:.2f} s")
    record("T5 slowest submit over HTTP", slowest, SUBMIT_SECONDS)
