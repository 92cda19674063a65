"""A job of two processes under a worker: one of them is killed, and the job goes on by itself."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.processes import alive, command_line, descendants
from tests.chaos.conftest import Tell
from tests.chaos.trainings import order, training
from tests.waiting import wait_for
from tests.worker.conftest import Bench

pytestmark = [pytest.mark.chaos, pytest.mark.nightly, pytest.mark.timeout(600)]
TWO = {"batch": 4, "devices": 2}
EPOCHS = 150


def second_rank(worker: int) -> list[int]:
    """Return the process that the trainer has started for the other part of each batch."""
    return [pid for pid in descendants(worker) if "models.rank" in command_line(pid)]


def succeeds(bench: Bench, job_id: str) -> str:
    job = bench.reaches(job_id, "succeeded", "failed", timeout=240)
    assert job.state == "succeeded", job.error
    (version,) = bench.published(job_id)
    assert version.card["plan"]["devices"]["value"] == 2
    return version.digest


def test_a_job_survives_the_death_of_one_of_its_ranks(
    make_bench: Callable[..., Any], tmp_path: Path, tell: Tell
) -> None:
    with training(make_bench, tmp_path) as (bench, dataset):
        worker = bench.worker(module="worker")
        wanted = succeeds(bench, order(bench, dataset, "calm", EPOCHS, **TWO))
        job_id = order(bench, dataset, "killed", EPOCHS, **TWO)
        wait_for(lambda: bench.job(job_id).last_step > 0, 120)
        (rank,) = second_rank(worker.pid)
        group, killed_at = os.getpgid(rank), time.monotonic()
        os.kill(rank, signal.SIGKILL)
        wait_for(lambda: bench.job(job_id).attempt == 2, 60)
        seconds = time.monotonic() - killed_at
        assert not alive([rank, group]), "a part of the first attempt outlives it"
        assert succeeds(bench, job_id) == wanted
        job = bench.job(job_id)
        assert (job.attempt, job.stalls) == (2, 0)
        assert bench.states(job_id).count("succeeded") == 1
        assert not second_rank(worker.pid)
    tell(f"one of two ranks killed: the next attempt {seconds:.1f} s later, the same weights")
