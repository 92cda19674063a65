"""T12: cancel at 20 random moments of a job's life."""

import contextlib
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import StateConflict
from tests.chaos.conftest import Tell, times
from tests.waiting import wait_for
from tests.worker.conftest import Bench, living

pytestmark = pytest.mark.chaos
MOMENTS, STEPS, LIFE = 20, 6, 1.5  # A job of six naps lives about so many seconds.
HOLDS = ("", "", "", "staging", "publishing")
P95, MOST = 3.0, 15.0
SCRIPT = dict.fromkeys(range(1, STEPS + 1), "nap")


def cancelled(bench: Bench, gate: Path, hold: str, after: float) -> tuple[str, str, float]:
    """Cancel a job some time after it was queued; return phase, end and seconds to the end."""
    job_id = bench.submit(SCRIPT, steps=STEPS, always=["nap"], hold=hold)
    end = time.monotonic() + after
    while time.monotonic() < end and bench.job(job_id).state not in ("succeeded", "failed"):
        time.sleep(0.01)
    asked_at, before = time.monotonic(), bench.job(job_id)
    with contextlib.suppress(StateConflict):
        bench.cancel(job_id)
    job = bench.reaches(job_id, "cancelled", "succeeded", "failed")
    wait_for(lambda: not living(gate))
    seconds = time.monotonic() - asked_at
    assert job.state in ("cancelled", "succeeded")
    assert len(bench.published(job_id)) == (job.state == "succeeded")
    return before.phase or before.state, job.state, seconds


def test_a_cancelled_job_stops_soon_and_never_half(
    make_bench: Callable[..., Any],
    gate: Path,
    chance: random.Random,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    with make_bench(cancel_grace_seconds=8.0, lease_seconds=3.0, heartbeat_seconds=0.5) as bench:
        bench.worker()
        bench.settles(bench.submit(steps=1))
        moments = [chance.uniform(0, LIFE) * (n % 5 > 0) for n in range(times(MOMENTS))]
        holds = itertools.cycle(HOLDS)
        ends = [cancelled(bench, gate, *one) for one in zip(holds, moments, strict=False)]
    seconds = sorted(taken for _, _, taken in ends)
    p95 = seconds[int(0.95 * (len(seconds) - 1))]
    phases = sorted({phase for phase, _, _ in ends})
    late = sum(state == "succeeded" for _, state, _ in ends)
    tell(
        f"T12 {len(ends)} cancels in {', '.join(phases)}: {len(ends) - late} cancelled,"
        f" {late} had succeeded, p95 {p95:.2f} s, max {seconds[-1]:.2f} s"
    )
    record("T12 p95", p95, P95)
    record("T12 max", seconds[-1], MOST)
