"""T13: workers whose clocks are an hour ahead, an hour behind, and set back while they work.

Leases are the database's: Postgres has one clock for all. With SQLite all processes share the one
machine's clock, so no two can differ. The `time.time` of the workers is made to lie; libfaketime
breaks the absolute sleeps of Python 3.11.
"""

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.store.migrate import upgrade
from tests.chaos.conftest import Tell
from tests.waiting import wait_for
from tests.worker.conftest import Bench

pytestmark = pytest.mark.chaos
SKEW = Path(__file__).parent / "skew"
LEASE, SWEEP, STEPS = 3.0, 1.0, 50
NAPS = dict.fromkeys(range(1, STEPS + 1), "nap")


def skewed(bench: Bench, clock: Path, skew: str) -> Bench:
    """The same bench for workers whose clock is off by what the file says, also later."""
    clock.write_text(skew)
    path = os.pathsep.join([str(SKEW), os.environ.get("PYTHONPATH", "")])
    lie = {"PYTHONPATH": path, "CHAOS_CLOCK": str(clock)}
    return dataclasses.replace(bench, environment=bench.environment | lie)


def test_no_lease_is_lost_or_ends_early_by_a_workers_clock(
    postgres: str,
    make_bench: Callable[..., Any],
    tmp_path: Path,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    upgrade(postgres)
    short = {"lease_seconds": LEASE, "heartbeat_seconds": 0.5, "sweep_seconds": SWEEP}
    with make_bench(database_url=postgres, **short) as bench:
        ids = [bench.submit(NAPS, steps=STEPS, always=["nap"]) for _ in range(4)]
        skewed(bench, tmp_path / "ahead", "3600").worker(slots=2)
        skewed(bench, tmp_path / "behind", "-3600").worker(slots=2)
        wait_for(lambda: all(bench.job(job_id).last_step for job_id in ids), 60)
        assert len({bench.job(job_id).worker for job_id in ids}) == 2
        for worker, clock, off in zip(
            bench.workers, ("ahead", "behind"), ("3600", "-3600"), strict=True
        ):
            assert (tmp_path / f"{clock}.{worker.pid}").read_text() == off
        (tmp_path / "ahead").write_text("-7200")
        for job_id in ids:
            assert bench.reaches(job_id, "succeeded", "failed", timeout=60).attempt == 1
        held = bench.submit({2: "wait"}, name="held")
        bench.wait("waiting")
        owner = int(str(bench.job(held).worker).split(":")[1])
        frozen = next(worker for worker in bench.workers if worker.pid == owner)
        frozen.send_signal(signal.SIGSTOP)
        frozen_at, until = time.monotonic(), bench.job(held).lease_until
        wait_for(lambda: bench.job(held).attempt == 2, 60)
        seconds = time.monotonic() - frozen_at
        handed_back = [event.at for event in bench.events(held) if event.data.get("reason")]
        bench.go()
        bench.reaches(held, "succeeded", "failed")
        frozen.send_signal(signal.SIGCONT)
    tell(
        f"T13 clocks 1 h ahead, 1 h behind and stepping 3 h back: 4/4 jobs in one attempt,"
        f" a frozen worker's job taken over after {seconds:.1f} s"
    )
    assert until is not None
    assert len(handed_back) == 1
    assert handed_back[0] >= until, "the lease was ended early"
    assert seconds >= LEASE / 2
    record("T13 taken over", seconds, LEASE + 2 * SWEEP)
