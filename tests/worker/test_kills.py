"""Workers that die, freeze or lose their lease: one other goes on, one result is published."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update

from core.tables import Job
from tests.waiting import wait_for
from tests.worker.conftest import Bench, living

LEASE = 3.0


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Iterator[Bench]:
    """A bench that notices quickly that a worker is gone."""
    with make_bench(lease_seconds=LEASE) as made:
        yield made


def test_a_killed_worker_takes_its_child_along_and_another_goes_on(bench: Bench) -> None:
    worker = bench.worker()
    job_id = bench.submit({3: "wait"})
    bench.wait("waiting")
    assert living(bench.gate)
    bench.worker()
    worker.kill()
    killed_at = time.monotonic()
    wait_for(lambda: not living(bench.gate), 5)
    assert time.monotonic() - killed_at <= 1.0
    wait_for(lambda: bench.job(job_id).attempt == 2)
    bench.go()
    assert bench.reaches(job_id, "succeeded", "failed").state == "succeeded"
    log = bench.resources.storage.get_bytes(f"logs/{job_id}.txt").decode()
    assert "starts at step 2" in log


def test_a_worker_that_is_started_again_need_not_wait_for_the_lease(
    make_bench: Callable[..., Any],
) -> None:
    with make_bench(lease_seconds=600, heartbeat_seconds=60) as bench:
        worker = bench.worker()
        job_id = bench.submit({3: "wait"})
        bench.wait("waiting")
        worker.kill()
        worker.wait(5)
        bench.go()
        bench.worker()
        assert bench.reaches(job_id, "succeeded", "failed").attempt == 2


def test_a_frozen_worker_publishes_nothing_when_it_thaws(bench: Bench) -> None:
    frozen = bench.worker()
    job_id = bench.submit({3: "wait"}, hold="publishing")
    bench.wait("waiting")
    bench.freeze(frozen)
    wait_for(lambda: not living(bench.gate), LEASE + 1)
    bench.worker()
    bench.go()
    job = bench.reaches(job_id, "succeeded", "failed")
    assert (job.state, job.fence) == ("succeeded", 2)
    (version,) = bench.published(job_id)
    frozen.send_signal(signal.SIGCONT)
    log = bench.log(0)
    wait_for(lambda: "job.lost" in log.read_text())
    assert bench.states(job_id)[-1] == "succeeded"
    assert bench.published(job_id)[0].prefix == version.prefix == f"models/{job_id}/2"
    later = bench.submit(steps=1)  # The thawed worker still works.
    assert bench.reaches(later, "succeeded", "failed").state == "succeeded"


def test_a_worker_frozen_while_publishing_is_refused(bench: Bench) -> None:
    frozen = bench.worker()
    job_id = bench.submit(hold="publishing")
    bench.wait("waiting")
    bench.freeze(frozen)
    bench.worker()
    wait_for(lambda: bench.job(job_id).attempt == 2)
    bench.go()
    bench.reaches(job_id, "succeeded")
    frozen.send_signal(signal.SIGCONT)
    wait_for(lambda: "job.lost" in bench.log(0).read_text())
    (version,) = bench.published(job_id)
    assert version.prefix == f"models/{job_id}/2"


def test_a_lost_lease_kills_the_child(bench: Bench) -> None:
    bench.worker()
    job_id = bench.submit({2: "wait"})
    bench.wait("waiting")
    with bench.resources.database.write() as session:
        taken = update(Job).where(Job.id == job_id)
        session.execute(taken.values(fence=Job.fence + 1, worker="somebody else"))
    wait_for(lambda: not living(bench.gate), 3)
    assert not bench.published(job_id)
    wait_for(lambda: bench.job(job_id).attempt == 2)  # Nobody renews the thief's lease.
    bench.go()
    assert bench.reaches(job_id, "succeeded", "failed").state == "succeeded"


def test_a_database_that_is_away_ends_the_child_before_the_lease(bench: Bench) -> None:
    """Another process holds SQLite's write lock: nothing can be renewed, cancel is unseen."""
    bench.worker()
    job_id = bench.submit({2: "wait"})
    bench.wait("waiting")
    with bench.resources.database.write() as session:
        session.get_one(Job, job_id)
        locked_at = time.monotonic()
        wait_for(lambda: not living(bench.gate), LEASE + 1)
        assert time.monotonic() - locked_at <= LEASE
    bench.go()
    assert bench.reaches(job_id, "succeeded", "failed").state == "succeeded"
