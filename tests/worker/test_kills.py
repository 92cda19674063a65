"""Workers that die, freeze or lose their lease: one other goes on, one result is published."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.domain import leases
from core.store.tables import Job
from tests.claims import claim_best
from tests.waiting import wait_for
from tests.worker.conftest import Bench, living, runs

LEASE = 3.0


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Iterator[Bench]:
    """A bench that notices quickly that a worker is gone."""
    with make_bench(lease_seconds=LEASE) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["cold", "warm"])
def either(request: pytest.FixtureRequest, make_bench: Callable[..., Any]) -> Iterator[Bench]:
    """The same, with children started in each of the two ways."""
    with make_bench(lease_seconds=LEASE, warm_start=request.param) as made:
        yield made


def forkserver_of(bench: Bench, number: int) -> int:
    """Return the forkserver of the n-th worker."""
    lines = map(json.loads, bench.log(number).read_text().splitlines())
    return next(int(line["pid"]) for line in lines if line["event"] == "forkserver.ready")


def test_a_killed_worker_takes_its_child_along_and_another_goes_on(either: Bench) -> None:
    worker = either.worker()
    job_id = either.submit({3: "wait"})
    either.wait("waiting")
    assert living(either.gate)
    either.worker()
    worker.kill()
    wait_for(lambda: not living(either.gate))
    wait_for(lambda: either.job(job_id).attempt == 2)
    either.go()
    assert either.reaches(job_id, "succeeded", "failed").state == "succeeded"
    log = either.resources.storage.get_bytes(f"logs/{job_id}.txt").decode()
    assert "starts at step 2" in log


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_child_dies_with_its_worker_and_not_only_with_the_claim(
    make_bench: Callable[..., Any], *, warm: bool
) -> None:
    with make_bench(lease_seconds=600, warm_start=warm) as bench:
        worker = bench.worker()
        bench.submit({3: "wait"})
        bench.wait("waiting")
        assert living(bench.gate)
        worker.kill()
        wait_for(lambda: not living(bench.gate))


def test_no_forkserver_outlives_its_worker(make_bench: Callable[..., Any]) -> None:
    with make_bench(warm_start=True) as bench:
        killed, asked = bench.worker(), bench.worker()
        forkservers = [forkserver_of(bench, number) for number in (0, 1)]
        assert all(map(runs, forkservers))
        killed.kill()
        wait_for(lambda: not runs(forkservers[0]), 1)
        asked.terminate()
        assert asked.wait(15) == 0
        assert not runs(forkservers[1])


def test_a_job_survives_the_death_of_the_forkserver_it_came_from(
    make_bench: Callable[..., Any],
) -> None:
    with make_bench(warm_start=True) as bench:
        bench.worker()
        job_id = bench.submit({2: "wait"})
        bench.wait("waiting")
        assert '"warm": true' in bench.log(0).read_text()
        os.kill(forkserver_of(bench, 0), signal.SIGKILL)
        wait_for(lambda: "forkserver.ended" in bench.log(0).read_text())
        bench.go()
        job = bench.reaches(job_id, "succeeded", "failed")
        assert (job.state, job.attempt) == ("succeeded", 1)


def test_a_child_that_somebody_else_kills_is_not_to_blame(calm: Bench) -> None:
    job_id = calm.submit({1: "hang"}, always=["hang"])
    for attempt in range(1, calm.resources.settings.max_attempts + 1):
        wait_for(lambda attempt=attempt: calm.job(job_id).attempt == attempt)
        (pid,) = wait_for(lambda: living(calm.gate))
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: calm.job(job_id).state != "running")
    calm.go()
    job = calm.reaches(job_id, "succeeded", "failed")
    reasons = [one.data.get("reason") or "" for one in calm.events(job_id) if one.kind == "state"]
    assert job.state == "succeeded"
    assert (job.attempt, job.stalls) == (calm.resources.settings.max_attempts + 1, 0)
    assert any("killed by SIGKILL, from outside" in reason for reason in reasons)


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


def test_a_frozen_worker_publishes_nothing_when_it_thaws(either: Bench) -> None:
    frozen = either.worker()
    job_id = either.submit({3: "wait"}, hold="publishing")
    either.wait("waiting")
    either.freeze(frozen)
    wait_for(lambda: not living(either.gate), LEASE + 1)
    either.worker()
    either.go()
    job = either.reaches(job_id, "succeeded", "failed")
    assert (job.state, job.fence) == ("succeeded", 2)
    (version,) = either.published(job_id)
    frozen.send_signal(signal.SIGCONT)
    log = either.log(0)
    wait_for(lambda: "job.lost" in log.read_text())
    assert either.states(job_id)[-1] == "succeeded"
    assert either.published(job_id)[0].prefix == version.prefix == f"models/{job_id}/2"
    later = either.submit(steps=1)  # The thawed worker still works.
    assert either.reaches(later, "succeeded", "failed").state == "succeeded"


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
        leases.release(session, job_id, 1, "it is about to be stolen")
        thief = claim_best(session, "somebody else", LEASE)
        assert thief is not None
        assert (thief.id, thief.fence) == (job_id, 2)
    wait_for(lambda: not living(bench.gate), 3)
    assert not bench.published(job_id)
    wait_for(lambda: bench.job(job_id).attempt == 3)  # Nobody renews the thief's lease.
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
