"""T10, T24 and T25: children that eat, hang, segfault; everybody else's jobs go on."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from core import jobs
from tests.chaos.conftest import Tell, times
from tests.waiting import wait_for
from tests.worker.conftest import Bench

pytestmark = pytest.mark.chaos
GOOD = 20
OOM_SECONDS = 10.0
WORKER = "tests.chaos.mixed_worker"


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


@pytest.mark.parametrize("how", ["python", "numpy"])
def test_a_job_beyond_memory_fails_at_once(
    how: str,
    make_bench: Callable[..., Any],
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    with make_bench() as bench:
        bench.worker(slots=2, module=WORKER)
        others = [bench.submit(steps=2) for _ in range(4)]
        with bench.resources.database.write() as session:
            hungry = jobs.submit(session, kind="evaluate", config={"how": how}).id
        wait_for(lambda: bench.job(hungry).attempt == 1)
        began = time.monotonic()
        job = bench.reaches(hungry, "failed", "succeeded")
        seconds = time.monotonic() - began
        assert job.error is not None
        assert (job.error["code"], job.attempt) == ("out_of_memory", 1)
        assert job.error["hint"]
        wait_for(lambda: succeeded(bench, others) == len(others))
    tell(f"T10 {how}: failed(out_of_memory) after {seconds:.1f} s, one attempt, 4/4 others well")
    record(f"T10 {how}", seconds, OOM_SECONDS)


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
        reasons = [event.data.get("reason") or "" for event in bench.events(job_id)]
        assert any("the process reported nothing for" in reason for reason in reasons)
    tell(f"T24 a child silent for {limit:g} s was replaced after {seconds:.1f} s")
    record("T24 hang", seconds, limit + 2.0)
