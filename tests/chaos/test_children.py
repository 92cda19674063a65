"""T10, T24 and T25: children that eat, hang, segfault; everybody else's jobs go on."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
import pytest

from core.domain import jobs
from core.system import failpoints
from tests.chaos.api_process import api
from tests.chaos.conftest import Tell, times
from tests.chaos.trainings import digest, order, reasons, training
from tests.waiting import wait_for
from tests.worker.conftest import Bench

pytestmark = pytest.mark.chaos
GOOD, HUNGRY = 20, 4
CALM = 100  # Requests to compare with.
OOM_SECONDS, POLL_SECONDS = 10.0, 0.1
WORKER = "tests.chaos.mixed_worker"
EPOCHS = 30


def succeeded(bench: Bench, ids: list[str]) -> int:
    return sum(bench.job(job_id).state == "succeeded" for job_id in ids)


def test_a_poisonous_job_ends_and_twenty_good_ones_do_not_notice(
    make_bench: Callable[..., Any], tell: Tell
) -> None:
    with make_bench() as bench:
        good = [bench.submit(steps=2) for _ in range(times(GOOD) // 2)]
        bad = bench.submit({3: "segfault"}, always=["segfault"])
        good += [bench.submit(steps=2) for _ in range(times(GOOD) // 2)]
        began = time.monotonic()
        bench.worker(slots=2)
        job = bench.reaches(bad, "failed", "succeeded", timeout=60)
        wait_for(lambda: succeeded(bench, good) == len(good), 60)
        assert job.error is not None
        assert (job.error["code"], job.stalls) == ("poison", 3)
        assert "SIGSEGV" in job.error["message"]
        assert {bench.job(job_id).attempt for job_id in good} == {1}
        tell(
            f"T25 failed(poison) after {job.attempt} attempts, 3 of them without progress;"
            f" {len(good)}/{len(good)} others succeeded, {time.monotonic() - began:.1f} s"
        )


@contextmanager
def asking(client: httpx2.Client, path: str) -> Iterator[list[tuple[float, float]]]:
    """Ask the api over and over meanwhile; yield when each question began and how long it took."""
    seen: list[tuple[float, float]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.01):
            began = time.monotonic()
            client.get(path).raise_for_status()
            seen.append((began, time.monotonic() - began))

    with ThreadPoolExecutor(1) as pool:
        asker = pool.submit(ask)
        try:
            yield seen
        finally:
            done.set()
            asker.result(30)


def starve(bench: Bench, how: str) -> tuple[float, float]:
    """Run a job that fills its memory; return when its process began and how long it went on."""
    with bench.resources.database.write() as session:
        hungry = jobs.submit(session, kind="evaluate", config={"how": how}).id
    wait_for(lambda: bench.job(hungry).attempt == 1)
    began = time.monotonic()
    job = bench.reaches(hungry, "failed", "succeeded")
    seconds = time.monotonic() - began
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("out_of_memory", 1)
    assert job.error["hint"]
    return began, seconds


@pytest.mark.parametrize("how", ["python", "numpy"])
def test_a_job_beyond_memory_fails_at_once_and_no_caller_notices(
    how: str,
    make_bench: Callable[..., Any],
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    with make_bench() as bench, api(bench.resources.settings) as (client, _):
        bench.worker(slots=2, module=WORKER)
        others = [bench.submit(steps=2) for _ in range(4)]
        wait_for(lambda: succeeded(bench, others) == len(others))
        with asking(client, f"/jobs/{others[0]}") as seen:
            wait_for(lambda: len(seen) >= CALM)
            calm = [took for _, took in seen]
            others += [bench.submit(steps=2) for _ in range(4)]
            runs = [starve(bench, how) for _ in range(times(HUNGRY))]
            wait_for(lambda: len(seen) >= 2 * CALM)
        wait_for(lambda: succeeded(bench, others) == len(others))
    beside = [took for began, took in seen if began > runs[0][0]]
    slowest, p99 = max(seconds for _, seconds in runs), quantiles(beside, n=100)[98]
    tell(
        f"T10 {how}: {len(runs)} failed(out_of_memory) after {slowest:.1f} s at most, one attempt "
        f"each, {len(others)}/{len(others)} others well; p99 of {len(beside)} requests beside them "
        f"{p99:.3f} s, of {len(calm)} before {quantiles(calm, n=100)[98]:.3f} s"
    )
    record(f"T10 {how}", slowest, OOM_SECONDS)
    record(f"T10 {how}, the api's p99", p99, POLL_SECONDS)


def test_a_hung_child_is_found_and_its_job_goes_on(
    make_bench: Callable[..., Any], tell: Tell, record: Callable[[str, float, float], None]
) -> None:
    limit = 2.0
    with make_bench(hung_seconds=limit) as bench:
        job_id = bench.submit({2: "hang"})
        bench.worker()
        bench.wait("waiting")
        hung_at = time.monotonic()
        wait_for(lambda: bench.job(job_id).attempt == 2)
        seconds = time.monotonic() - hung_at
        bench.go()
        job = bench.reaches(job_id, "succeeded", "failed")
        assert (job.state, job.attempt) == ("succeeded", 2)
        (reason,) = reasons(bench, job_id)
        assert reason.startswith("the process reported nothing for")
    tell(f"T24 a child silent for {limit:g} s was replaced after {seconds:.1f} s")
    record("T24 hang", seconds, limit + 2.0)


def test_a_hung_training_is_replaced_and_ends_in_the_same_weights(
    make_bench: Callable[..., Any], tmp_path: Path, tell: Tell, record: Callable[..., None]
) -> None:
    limit, once = 3.0, tmp_path / "hung"
    once.touch()  # So that the calm one does not hang.
    with training(make_bench, tmp_path, hung_seconds=limit) as (plain, dataset):
        hang = {failpoints.VARIABLE: f"train.step=hang@20?{once}"}
        bench = dataclasses.replace(plain, environment=plain.environment | hang)
        bench.worker(module="worker")
        wanted = digest(bench, order(bench, dataset, "calm", EPOCHS))
        once.unlink()
        job_id = order(bench, dataset, "hung", EPOCHS)
        wait_for(once.exists, 60)
        hung_at = time.monotonic()
        wait_for(lambda: bench.job(job_id).attempt == 2)
        seconds = time.monotonic() - hung_at
        assert digest(bench, job_id) == wanted
        assert bench.job(job_id).attempt == 2
        (reason,) = reasons(bench, job_id)
        assert reason.startswith("the process reported nothing for")
    tell(
        f"T24 a training that hangs was replaced after {seconds:.1f} s, the same weights: {reason}"
    )
    record("T24 hung training", seconds, limit + 2.0)
