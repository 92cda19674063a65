"""T2 and T11: workers killed and drained while they train; the weights stay the same."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.processes import alive, descendants
from tests.chaos.conftest import Tell, times
from tests.chaos.trainings import LEASE, SWEEP, digest, order, training
from tests.waiting import wait_for
from tests.worker.conftest import Bench

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
KILLS, EPOCHS_OF_A_KILL = 10, 80  # In all not beyond the 1000 that a request may have.
CALM_EPOCHS = 200  # Beside these a start, a claim and a drain are short.
DEAD_SECONDS, DRAIN_SECONDS = 1.0, 25.0


def trains(bench: Bench, job_id: str, attempt: int, step: int) -> bool:
    job = bench.job(job_id)
    ended = job.state in ("succeeded", "failed")
    return ended or (job.attempt >= attempt and job.phase == "training" and job.last_step > step)


def holder(bench: Bench, job_id: str) -> subprocess.Popen[bytes]:
    pid = int(str(bench.job(job_id).worker).split(":")[1])
    return next(worker for worker in bench.workers if worker.pid == pid)


@pytest.mark.nightly
def test_killed_supervisors_leave_no_process_and_cost_no_bit(
    make_bench: Callable[..., Any],
    tmp_path: Path,
    chance: random.Random,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    deaths: list[float] = []
    resumes: list[float] = []
    epochs = CALM_EPOCHS + EPOCHS_OF_A_KILL * times(KILLS)
    with training(make_bench, tmp_path) as (bench, dataset):
        bench.worker(module="worker")
        wanted = digest(bench, order(bench, dataset, "calm", epochs))
        bench.worker(module="worker")
        job_id = order(bench, dataset, "killed", epochs)
        for kill in range(times(KILLS)):
            last = bench.job(job_id).last_step
            wait_for(lambda kill=kill, last=last: trains(bench, job_id, kill + 1, last), 120)
            time.sleep(chance.uniform(0, 0.2))
            assert bench.job(job_id).state == "running", f"over after {len(deaths)} kills"
            done = bench.job(job_id).progress
            worker = holder(bench, job_id)
            below, killed_at = descendants(worker.pid), time.monotonic()
            (os.killpg if kill % 2 else os.kill)(worker.pid, signal.SIGKILL)
            wait_for(lambda below=below: not alive(below), 10)
            deaths.append(time.monotonic() - killed_at)
            worker.wait(5)
            wait_for(lambda kill=kill: bench.job(job_id).attempt == kill + 2, 60)
            resumes.append(time.monotonic() - killed_at)
            bench.worker(module="worker", ready=False)
        assert digest(bench, job_id) == wanted
        assert len(deaths) == times(KILLS)
    tell(
        f"T2 {len(deaths)} supervisors killed: the same weights, trainer dead after"
        f" {max(deaths):.2f} s, claimed again after {max(resumes):.1f} s at most,"
        f" {done:.0%} done at the last"
    )
    record("T2 trainer dead", max(deaths), DEAD_SECONDS)
    record("T2 resumed", max(resumes), LEASE + 2 * SWEEP)


@pytest.mark.nightly
def test_a_drained_worker_hands_its_job_over_without_losing_a_bit(
    make_bench: Callable[..., Any], tmp_path: Path, tell: Tell, record: Callable[..., None]
) -> None:
    with training(make_bench, tmp_path) as (bench, dataset):
        bench.worker(module="worker")
        wanted = digest(bench, order(bench, dataset, "calm", CALM_EPOCHS))
        job_id = order(bench, dataset, "drained", CALM_EPOCHS)
        wait_for(lambda: trains(bench, job_id, 1, 0), 60)
        asked_at = time.monotonic()
        bench.workers[0].send_signal(signal.SIGTERM)
        assert bench.workers[0].wait(60) == 0
        seconds = time.monotonic() - asked_at
        job = bench.job(job_id)
        assert (job.state, job.reason, job.stalls) == ("queued", "its worker was stopped", 0)
        bench.worker(module="worker")
        assert digest(bench, job_id) == wanted
        assert bench.job(job_id).attempt == 2
    tell(f"T11 a worker drained in {seconds:.1f} s, its job went on to the same weights")
    record("T11 worker drained", seconds, DRAIN_SECONDS)
