"""Real workers: each end of a job, cancelling in each phase, drains, doorbells."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import pytest

from core.domain import jobs
from core.store.broker import QUEUE, WORK
from tests.waiting import wait_for
from tests.worker.conftest import Bench, living

NAMELESS = json.dumps(  # A ring as Celery writes it, but for the task's id.
    {
        "body": base64.b64encode(b'[[], {}, {"callbacks": null}]').decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": WORK, "argsrepr": "()", "kwargsrepr": "{}"},
        "properties": {
            "body_encoding": "base64",
            "correlation_id": "nameless",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "delivery_mode": 2,
            "delivery_tag": "nameless",
            "priority": 0,
        },
    }
).encode()


@pytest.fixture
def rung(make_bench: Callable[..., Any]) -> Iterator[Bench]:
    """A bench whose worker has done its only sweep: from here on the doorbell must do.

    The thread of that sweep may find more than the first job, but not for long.
    """
    with make_bench(sweep_seconds=600) as bench:
        bench.worker(slots=2)
        for _ in range(4):
            bench.settles(bench.submit(steps=1))
        yield bench


def test_a_job_runs_to_a_published_model(calm: Bench) -> None:
    job_id = calm.submit(name="pets")
    job = calm.reaches(job_id, "succeeded", "failed")
    (version,) = calm.published(job_id)
    assert job.result is not None
    assert (job.result["model"], job.progress, job.attempt) == ("pets@1", 1.0, 1)
    assert version.prefix == f"models/{job_id}/{job.fence}"
    assert set(version.files) == {"weights.safetensors", "card.json"}
    events = calm.events(job_id)
    assert [e.kind for e in events[-3:]] == ["epoch", "phase", "state"]
    assert [e.data["phase"] for e in events if e.kind == "phase"] == ["training", "publishing"]
    log = calm.resources.storage.get_bytes(f"logs/{job_id}.txt").decode()
    assert "starts at step 0" in log
    calm.settles(job_id)


def test_a_known_error_fails_the_job_with_its_code(calm: Bench) -> None:
    job = calm.reaches(calm.submit({2: "refuse"}), "failed", "succeeded")
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("loss_diverged", 1)


def test_a_crash_goes_on_from_the_checkpoint(calm: Bench) -> None:
    job_id = calm.submit({2: "crash", 3: "segfault"})
    job = calm.reaches(job_id, "succeeded", "failed")
    assert (job.state, job.attempt, job.stalls) == ("succeeded", 3, 0)
    log = calm.resources.storage.get_bytes(f"logs/{job_id}.txt").decode()
    starts = [line.split(" ", 2)[2] for line in log.splitlines() if "starts at" in line]
    assert starts == ["starts at step 0", "starts at step 1", "starts at step 2"]
    reasons = [e.data.get("reason") for e in calm.events(job_id) if e.kind == "state"]
    assert "the process ended with exit code 1: RuntimeError: told to" in reasons


def test_crashing_without_progress_is_poison(calm: Bench) -> None:
    job = calm.reaches(calm.submit({2: "crash"}, always=["crash"]), "failed", "succeeded")
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("poison", 4)  # The first one made progress.
    assert "RuntimeError: told to" in job.error["message"]


def test_an_unexpected_exception_is_met_once(calm: Bench) -> None:
    job_id = calm.submit({2: "raise"})
    job = calm.reaches(job_id, "succeeded", "failed")
    assert (job.state, job.attempt) == ("succeeded", 2)
    (told,) = [reason for e in calm.events(job_id) if (reason := e.data.get("reason"))]
    assert told.startswith("the process ended with ZeroDivisionError in tests/worker/fake_child.py")


def test_the_same_exception_twice_ends_the_job_with_its_name_and_place(calm: Bench) -> None:
    """The message has the number of the process in it, which is another one each time."""
    job_id = calm.submit({2: "raise"}, always=["raise"])
    job = calm.reaches(job_id, "succeeded", "failed")
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("unexpected_exception", 2)
    assert "ZeroDivisionError in tests/worker/fake_child.py, line " in job.error["message"]
    assert ", act: told to, as process " in job.error["message"]
    assert "topwork jobs logs" in job.error["hint"]
    log = calm.resources.storage.get_bytes(f"logs/{job_id}.txt").decode()
    assert log.count("Traceback (most recent call last)") == 2
    with calm.resources.database.write() as session:
        jobs.retry(session, job_id)  # As after an update: it may be met once more.
    wait_for(lambda: calm.job(job_id).attempt == 4)
    assert calm.reaches(job_id, "failed").error == job.error | {"message": ANY}


def test_a_result_that_never_appears_is_a_crash(calm: Bench) -> None:
    job = calm.reaches(calm.submit({2: "vanish"}), "succeeded", "failed")
    assert (job.state, job.attempt) == ("succeeded", 2)


def test_silence_is_a_hang(make_bench: Callable[..., Any]) -> None:
    with make_bench(hung_seconds=1.0) as bench:
        bench.worker()
        job_id = bench.submit({2: "hang"})
        bench.wait("waiting")
        wait_for(lambda: bench.job(job_id).attempt == 2)
        bench.go()
        assert bench.reaches(job_id, "succeeded", "failed").state == "succeeded"


@pytest.mark.parametrize("hold", ["staging", "child", "stubborn child", "publishing"])
def test_cancel_stops_whatever_runs(calm: Bench, hold: str) -> None:
    action = {"child": "wait", "stubborn child": "ignore_and_wait"}.get(hold, "")
    job_id = calm.submit({2: action}, hold=hold)
    calm.wait("waiting")
    asked_at = time.monotonic()
    calm.cancel(job_id)
    job = calm.reaches(job_id, "cancelled", "succeeded", "failed")
    grace = calm.resources.settings.cancel_grace_seconds if hold == "stubborn child" else 0
    assert job.state == "cancelled"
    assert time.monotonic() - asked_at < grace + 2.0
    assert not living(calm.gate)
    assert not calm.published(job_id)


def test_sigterm_hands_the_job_back_and_another_worker_goes_on(rung: Bench) -> None:
    job_id = rung.submit({3: "wait"})
    rung.wait("waiting")
    asked_at = time.monotonic()
    rung.workers[0].send_signal(signal.SIGTERM)
    assert rung.workers[0].wait(25) == 0
    assert time.monotonic() - asked_at < 8.0
    job = rung.job(job_id)
    assert (job.state, job.stalls, job.reason) == ("queued", 0, "its worker was stopped")
    assert not living(rung.gate)
    rung.worker()
    assert rung.reaches(job_id, "succeeded", "failed").attempt == 2
    log = rung.resources.storage.get_bytes(f"logs/{job_id}.txt").decode()
    assert "starts at step 2" in log


@pytest.mark.parametrize("busy_once", [False, True])
def test_an_idle_worker_leaves_at_once(bench: Bench, *, busy_once: bool) -> None:
    """Also while it starts, when Celery's own handlers are not in place yet."""
    worker = bench.worker()
    wait_for((bench.resources.settings.run_dir / "worker.alive").exists)
    if busy_once:
        bench.reaches(bench.submit(steps=1), "succeeded")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0


def test_more_jobs_than_slots_all_run(bench: Bench) -> None:
    ids = [bench.submit(steps=1) for _ in range(6)]
    bench.worker(slots=2)
    for job_id in ids:
        assert bench.reaches(job_id, "succeeded", "failed").attempt == 1


def test_doubled_and_foreign_messages_change_nothing(bench: Bench) -> None:
    bench.worker(slots=2)
    celery = bench.resources.celery
    ids = [bench.submit(steps=1) for _ in range(3)]
    for _ in range(10):
        celery.send_task(WORK, queue=QUEUE)
    celery.send_task(WORK, ["x" * 1_000_000], {"job": {"deep": [1]}}, queue=QUEUE)
    celery.send_task("unknown.task", [1], queue=QUEUE)
    with celery.connection_for_write() as connection:
        producer = connection.Producer()
        producer.publish("garbage", routing_key=QUEUE, content_type="application/x-unheard-of")
        producer.publish(b"\x80\x04.", routing_key=QUEUE, content_type="application/x-python")
    ids += [bench.submit(steps=1) for _ in range(3)]
    for job_id in ids:
        assert bench.reaches(job_id, "succeeded", "failed").attempt == 1


@pytest.mark.parametrize("garbage", [b"not json", b"{}", b"[1, 2]", NAMELESS])
def test_the_worker_goes_on_behind_garbage(rung: Bench, garbage: bytes) -> None:
    running = rung.submit({2: "wait"})
    rung.wait("waiting")
    with rung.resources.celery.connection_for_write() as connection:
        broker = connection.default_channel.client
        wait_for(lambda: broker.llen(QUEUE) == 0)
        broker.lpush(QUEUE, garbage)
        wait_for(lambda: broker.llen(QUEUE) == 0)
    rung.go()
    rung.settles(running)
    recovered = ("doorbell.restarts", "Trying to re-establish the connection")
    wait_for(lambda: any(words in rung.log(0).read_text() for words in recovered))
    behind = rung.submit(steps=1)
    rung.settles(behind)
    told = rung.log(0).read_text().count(recovered[1])
    assert told <= 1  # What Celery broke down on has not come back to break it again.
    assert [rung.job(job_id).attempt for job_id in (running, behind)] == [1, 1]
    assert rung.workers[0].poll() is None


def test_jobs_run_without_any_broker(make_bench: Callable[..., Any]) -> None:
    with make_bench(broker_url="redis://127.0.0.1:1/0") as bench:
        job_id = bench.submit(steps=1)
        worker = bench.worker()
        assert bench.reaches(job_id, "succeeded", "failed").state == "succeeded"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0


def test_the_worker_says_whether_it_is_alive(bench: Bench) -> None:
    def check() -> int:
        command = [sys.executable, "-m", "worker", "--check"]
        checked = subprocess.run(command, env=os.environ | bench.environment, check=False)
        return checked.returncode

    assert check() == 1
    worker = bench.worker()
    wait_for((bench.resources.settings.run_dir / "worker.alive").exists)
    assert check() == 0
    worker.kill()
    worker.wait(5)
    wait_for(lambda: check() == 1, 10)


def test_the_doorbell_is_heard(rung: Bench) -> None:
    rung.settles(rung.submit(steps=1))
