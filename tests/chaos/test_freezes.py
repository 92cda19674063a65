"""T3: workers frozen beyond their leases while another finishes, then thawed: 20 stale writes."""

import dataclasses
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.conftest import Tell, times
from tests.waiting import wait_for
from tests.worker.conftest import Bench

pytestmark = pytest.mark.chaos
LEASE, SWEEP = 3.0, 1.0
SLOTS = 5
WORKER = "tests.chaos.mixed_worker"


def refused(bench: Bench, number: int) -> int:
    return bench.log(number).read_text().count("job.lost")


def freeze_round(bench: Bench, gate: Path, hold: str, winner: int, frozen: int) -> list[str]:
    """Let one worker take five jobs, freeze it, let the other finish them; return the jobs."""
    gate.mkdir()
    here = dataclasses.replace(bench, gate=gate)
    bench.freeze(bench.workers[winner])
    ids = [here.submit(steps=1, name=gate.name, hold=hold) for _ in range(SLOTS)]
    wait_for(lambda: all(here.job(job_id).phase == "publishing" for job_id in ids), 60)
    bench.freeze(bench.workers[frozen])
    bench.workers[winner].send_signal(signal.SIGCONT)
    wait_for(lambda: all(here.job(job_id).attempt == 2 for job_id in ids), 60)
    here.go()
    for job_id in ids:
        here.reaches(job_id, "succeeded", "failed", timeout=60)
    return ids


@pytest.mark.parametrize(("hold", "usual"), [("blind", 4), ("publishing", 1)])
def test_a_thawed_worker_publishes_nothing(
    hold: str, usual: int, make_bench: Callable[..., Any], tmp_path: Path, tell: Tell
) -> None:
    """One that sees refuses itself by its own clock; a blind one is refused by the fence."""
    rounds = times(usual)
    began = time.monotonic()
    with make_bench(lease_seconds=LEASE, heartbeat_seconds=0.5, sweep_seconds=SWEEP) as bench:
        bench.worker(slots=SLOTS, module=WORKER)
        bench.worker(slots=SLOTS, module=WORKER)
        for number in range(rounds):
            ids = freeze_round(bench, tmp_path / f"round{number}", hold, winner=1, frozen=0)
            before = [bench.published(job_id) for job_id in ids]
            bench.workers[0].send_signal(signal.SIGCONT)
            wait_for(lambda number=number: refused(bench, 0) == SLOTS * (number + 1))
            for job_id, (version,) in zip(ids, before, strict=True):
                # Fence 1 was frozen; on a busy machine its successor may have been replaced, too.
                assert int(version.prefix.removeprefix(f"models/{job_id}/")) > 1
                assert [one.prefix for one in bench.published(job_id)] == [version.prefix]
                assert bench.job(job_id).state == "succeeded"
        tell(
            f"T3 {hold}: {refused(bench, 0)}/{rounds * SLOTS} stale publications refused,"
            f" 0 double, {time.monotonic() - began:.1f} s"
        )
