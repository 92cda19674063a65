"""T17 for the api: a bad network before its broker is not felt, one before its database is told."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select

from core.store.migrate import upgrade
from core.store.resources import Resources, open_resources
from core.store.tables import Job
from core.system.settings import Settings
from tests.app.apiclient import publish_dataset
from tests.chaos.api_process import api
from tests.chaos.broker import PASSWORD, Broker
from tests.chaos.conftest import Tell
from tests.chaos.proxy import Proxy, before_postgres
from tests.chaos.test_networks import (
    FAULT_SECONDS,
    FAULTS,
    HANG_SECONDS,
    RECOVERY_SECONDS,
    broker,  # noqa: F401 - a fixture.
)
from tests.invariants import broken
from tests.waiting import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
SUBMIT_SECONDS, HEALTH_SECONDS = 1.5, 1.0
SUBMITS, CALLERS = 5, 4
ORDER = {"architecture": "lenet", "weights": "none"}


def submitted(resources: Resources) -> int:
    with resources.database.read() as session:
        return len(session.scalars(select(Job.id).where(Job.kind == "finetune")).all())


@pytest.mark.parametrize("fault", FAULTS)
def test_no_caller_feels_a_bad_network_to_the_broker(
    fault: str,
    broker: Broker,  # noqa: F811 - the fixture.
    settings: Settings,
    tmp_path: Path,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    slowest = 0.0
    with Proxy(str(broker.socket)) as proxy:
        url = f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}/0"
        settings = Settings(data_dir=settings.data_dir, broker_url=url)
        with open_resources(settings) as resources, api(settings) as (client, _):
            order = ORDER | {"dataset": publish_dataset(resources, tmp_path / "pets").id}
            assert client.post("/finetune", json=order).status_code == 202
            proxy.mode = fault
            for _ in range(SUBMITS):
                began = time.monotonic()
                assert client.post("/finetune", json=order).status_code == 202
                slowest = max(slowest, time.monotonic() - began)
            proxy.mode = "pass"
            assert submitted(resources) == SUBMITS + 1
            assert not broken(resources)
    tell(f"T17 api, broker {fault}: slowest of {SUBMITS} submits {slowest:.2f} s")
    record(f"T17 api, broker {fault}", slowest, SUBMIT_SECONDS)


@dataclass
class Met:
    """What callers met while the database was hard to reach."""

    url: str
    order: Mapping[str, object]
    over: threading.Event = field(default_factory=threading.Event)
    slowest: float = 0.0
    health: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    refused: int = 0

    def ask(self, client: httpx2.Client, number: int) -> bool:
        """Submit once, always as the same; a refusal has to be one that may be tried again."""
        began = time.monotonic()
        key = {"Idempotency-Key": f"caller-{number}"}
        answer = client.post("/finetune", json=self.order, headers=key)
        self.slowest = max(self.slowest, time.monotonic() - began)
        if answer.status_code == 202:
            return True
        again = answer.status_code == 409 and answer.json()["code"] == "request_in_flight"
        if again or (answer.status_code == 503 and "retry-after" in answer.headers):
            self.refused += 1
        else:
            self.wrong.append(f"{answer.status_code} {answer.text[:200]}")
        return False

    def caller(self, number: int) -> None:
        """Try until the answer is 202, as a patient client does, and once more after that."""
        with httpx2.Client(base_url=self.url, timeout=HANG_SECONDS, trust_env=False) as client:
            wait_for(lambda: self.ask(client, number), HANG_SECONDS)
            self.over.wait(HANG_SECONDS)
            wait_for(lambda: self.ask(client, number), HANG_SECONDS)

    def watcher(self) -> None:
        """Ask over and over whether the process lives."""
        with httpx2.Client(base_url=self.url, timeout=HANG_SECONDS, trust_env=False) as client:
            while not self.over.wait(0.1):
                began = time.monotonic()
                client.get("/healthz").raise_for_status()
                self.health.append(time.monotonic() - began)


@pytest.mark.parametrize("fault", FAULTS)
def test_callers_are_told_of_a_bad_network_to_the_database_and_lose_nothing(
    fault: str,
    postgres: str,
    settings: Settings,
    tmp_path: Path,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    """Each caller ends up with one job, however often it asked; the process stays awake."""
    upgrade(postgres)
    with (
        before_postgres(postgres) as (proxy, through),
        open_resources(Settings(data_dir=settings.data_dir, database_url=postgres)) as resources,
    ):
        order = ORDER | {"dataset": publish_dataset(resources, tmp_path / "pets").id}
        seen = Settings(data_dir=settings.data_dir, database_url=through)
        with api(seen) as (client, process):
            assert client.get("/jobs").status_code == 200
            met = Met(str(client.base_url), order)
            callers = [threading.Thread(target=met.caller, args=(n,)) for n in range(CALLERS)]
            watcher = threading.Thread(target=met.watcher)
            proxy.mode = fault
            for thread in (watcher, *callers):
                thread.start()
            time.sleep(FAULT_SECONDS)
            proxy.mode = "pass"
            healed_at = time.monotonic()
            wait_for(lambda: submitted(resources) == CALLERS, HANG_SECONDS)
            wait_for(lambda: client.get("/jobs").status_code == 200, HANG_SECONDS)
            seconds = time.monotonic() - healed_at
            met.over.set()
            for thread in (watcher, *callers):
                thread.join(HANG_SECONDS)
                assert not thread.is_alive(), "a request hangs"
            assert process.poll() is None
        assert not met.wrong, met.wrong[:3]
        assert submitted(resources) == CALLERS
        assert not broken(resources)
    tell(
        f"T17 api, database {fault} for {FAULT_SECONDS:g} s: {CALLERS} callers, one job each, "
        f"{met.refused} refusals to try again, all well {seconds:.1f} s later, slowest answer "
        f"{met.slowest:.1f} s, slowest /healthz {max(met.health):.2f} s"
    )
    record(f"T17 api, database {fault}", seconds, RECOVERY_SECONDS)
    record(f"T17 api, database {fault}: an answer", met.slowest, HANG_SECONDS)
    record(f"T17 api, database {fault}: /healthz", max(met.health), HEALTH_SECONDS)
