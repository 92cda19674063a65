"""T5 and T6: the broker dies, forgets, is away; its messages are doubled, shuffled and garbage."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.store.broker import QUEUE
from tests.chaos.broker import Broker
from tests.chaos.conftest import Tell, times
from tests.waiting import wait_for
from tests.worker.conftest import Bench

pytestmark = pytest.mark.chaos
KILLS, JOBS, BELLS, SUBMITS = 5, 50, 10, 20
LIVE_AGAIN_SECONDS, SUBMIT_SECONDS = 30.0, 1.5
GARBAGE = [b"not json", b"{}", b"[1, 2]", b"\x80\x04.", b"", b"null"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    own = Broker(tmp_path)
    own.start()
    yield own
    own.close()


def count(bench: Bench, ids: list[str], state: str) -> int:
    return sum(bench.job(job_id).state == state for job_id in ids)


def test_jobs_outlive_the_broker(
    broker: Broker, make_bench: Callable[..., Any], chance: random.Random, tell: Tell
) -> None:
    began = time.monotonic()
    with make_bench(broker_url=broker.url, sweep_seconds=1.0) as bench:
        ids = [bench.submit(steps=1) for _ in range(JOBS)]
        bench.worker(slots=3)
        for kill in range(times(KILLS)):
            done = min(JOBS * (kill + 1) // (times(KILLS) + 2), JOBS - 5)
            wait_for(lambda done=done: count(bench, ids, "succeeded") >= done, 120)
            broker.kill()
            time.sleep(chance.uniform(0, 0.5))
            broker.start()
        broker.client.flushall()
        wait_for(lambda: count(bench, ids, "succeeded") == JOBS, 120)
        assert {bench.job(job_id).attempt for job_id in ids} == {1}
        tell(
            f"T5 {times(KILLS)} broker kills and a FLUSHALL: {JOBS}/{JOBS} jobs ran once,"
            f" {time.monotonic() - began:.1f} s"
        )


def test_a_queue_that_the_broker_forgot_runs(
    broker: Broker, make_bench: Callable[..., Any], tell: Tell
) -> None:
    with make_bench(broker_url=broker.url, sweep_seconds=1.0) as bench:
        ids = [bench.submit(steps=1) for _ in range(JOBS)]
        assert broker.client.llen(QUEUE) == JOBS
        broker.client.flushall()
        bench.worker(slots=3)
        wait_for(lambda: count(bench, ids, "succeeded") == JOBS, 120)
    tell(f"T5 FLUSHALL with {JOBS} queued: {JOBS}/{JOBS} succeeded")


def test_the_doorbell_is_heard_again_after_the_broker_was_away(
    broker: Broker,
    make_bench: Callable[..., Any],
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    """No sweep helps here, so only a worker that listens again can take the last job."""
    with make_bench(broker_url=broker.url, sweep_seconds=600.0) as bench:
        bench.worker(slots=2)
        for _ in range(4):
            bench.settles(bench.submit(steps=1))
        broker.kill()
        slowest, ids = 0.0, []
        for _ in range(SUBMITS):
            began = time.monotonic()
            ids.append(bench.submit(steps=1))
            slowest = max(slowest, time.monotonic() - began)
        assert count(bench, ids, "queued") == SUBMITS
        broker.start()
        came_back_at = time.monotonic()
        ids.append(bench.submit(steps=1))
        wait_for(lambda: count(bench, ids, "succeeded") > 0, 90)
        live = time.monotonic() - came_back_at
        wait_for(lambda: count(bench, ids, "succeeded") == SUBMITS + 1, 90)
    tell(
        f"T5 broker away: {SUBMITS}/{SUBMITS} submits kept, slowest {slowest:.2f} s,"
        f" first job done {live:.1f} s after it came back"
    )
    record("T5 slowest submit", slowest, SUBMIT_SECONDS)
    record("T5 live again", live, LIVE_AGAIN_SECONDS)


def test_wild_doorbells_cost_nothing(
    broker: Broker, make_bench: Callable[..., Any], chance: random.Random, tell: Tell
) -> None:
    with make_bench(broker_url=broker.url, sweep_seconds=1.0) as bench:
        ids = [bench.submit(steps=1) for _ in range(BELLS)]
        real: list[Any] = broker.client.lrange(QUEUE, 0, -1)
        assert len(real) == BELLS
        broker.client.delete(QUEUE)
        unknown = [bell.replace(b"topwork.work", b"topwork.unknown") for bell in real[:3]]
        strange = [bell.replace(b'"id"', b'"di"') for bell in real[:2]]
        huge = [b'{"body": "' + b"x" * 1_000_000 + b'"}', b"y" * 1_000_000]
        bells = [*(real * 10), *unknown, *strange, *huge, *GARBAGE]
        chance.shuffle(bells)
        for bell in bells:
            broker.client.lpush(QUEUE, bell)
        began = time.monotonic()
        bench.worker(slots=2)
        bench.worker(slots=2)
        wait_for(lambda: count(bench, ids, "succeeded") == BELLS, 120)
        wait_for(lambda: broker.client.llen(QUEUE) == 0, 120)
        later = bench.submit(steps=1)
        assert bench.reaches(later, "succeeded", "failed").attempt == 1
        assert {bench.job(job_id).attempt for job_id in ids} == {1}
        assert [worker.poll() for worker in bench.workers] == [None, None]
        assert broker.client.hlen("unacked") == 0  # Where kombu keeps what it may give back.
        tell(
            f"T6 {len(bells)} bells for {BELLS} jobs, {len(bells) - 10 * BELLS} of them wild:"
            f" one run each, 0 worker deaths, {time.monotonic() - began:.1f} s"
        )
