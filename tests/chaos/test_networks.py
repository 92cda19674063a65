"""T17: a slow, cut, deaf and dripping network before the broker and before the database."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.store.migrate import upgrade
from tests.chaos.broker import PASSWORD, Broker
from tests.chaos.conftest import Tell
from tests.chaos.proxy import Proxy, before_postgres
from tests.worker.conftest import Bench

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]
NIGHTLY = ("slow", "deaf", "drip")  # Half a minute each and more.
FAULTS = ["cut", *(pytest.param(fault, marks=pytest.mark.nightly) for fault in NIGHTLY)]
LEASE, FAULT_SECONDS = 3.0, 5.0
RECOVERY_SECONDS, HANG_SECONDS = 60.0, 90.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    own = Broker(tmp_path)
    own.start()
    yield own
    own.close()


def healed_at(proxy: Proxy, fault: str) -> float:
    """Let a fault last for some seconds; return when it was over."""
    proxy.mode = fault
    time.sleep(FAULT_SECONDS)
    proxy.mode = "pass"
    return time.monotonic()


def goes_on(bench: Bench, ids: list[str], since: float) -> float:
    """Wait until each job has succeeded; return how long after the fault that was."""
    for job_id in ids:
        left = since + HANG_SECONDS - time.monotonic()
        assert bench.reaches(job_id, "succeeded", "failed", timeout=left).state == "succeeded"
    return time.monotonic() - since


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_network_to_the_broker_delays_only(
    fault: str,
    broker: Broker,
    make_bench: Callable[..., Any],
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    """Sweeps are switched off here: the last job runs only if the worker hears its bell."""
    with (
        Proxy(str(broker.socket)) as proxy,
        make_bench(broker_url=broker.url, sweep_seconds=600.0) as bench,
    ):
        url = f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}/0"
        bench.environment["TOPWORK_BROKER_URL"] = url
        bench.worker(slots=2)
        for _ in range(4):
            bench.settles(bench.submit(steps=1))
        proxy.mode = fault
        during = bench.submit(steps=1)
        since = healed_at(proxy, fault)
        after = bench.submit(steps=1)
        seconds = goes_on(bench, [during, after], since)
        assert bench.workers[0].poll() is None
    tell(f"T17 broker {fault} for {FAULT_SECONDS:g} s: heard again {seconds:.1f} s later")
    record(f"T17 broker {fault}", seconds, RECOVERY_SECONDS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_network_to_the_database_costs_at_most_an_attempt(
    fault: str,
    postgres: str,
    make_bench: Callable[..., Any],
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    upgrade(postgres)
    short = {"lease_seconds": LEASE, "heartbeat_seconds": 0.5, "sweep_seconds": 1.0}
    with (
        before_postgres(postgres) as (proxy, url),
        make_bench(database_url=postgres, **short) as bench,
    ):
        bench.environment["TOPWORK_DATABASE_URL"] = url
        bench.worker()
        job_id = bench.submit({2: "wait"})
        bench.wait("waiting")
        since = healed_at(proxy, fault)
        bench.go()
        after = bench.submit(steps=1)
        seconds = goes_on(bench, [job_id, after], since)
        attempts = bench.job(job_id).attempt
        assert attempts <= 2
        assert bench.workers[0].poll() is None
    tell(
        f"T17 database {fault} for {FAULT_SECONDS:g} s: both jobs done {seconds:.1f} s later,"
        f" attempt {attempts}"
    )
    record(f"T17 database {fault}", seconds, RECOVERY_SECONDS)
