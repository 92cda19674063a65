"""T12: cancel at 20 random moments of a job's life, and at 8 of a real training's."""

import contextlib
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.processes import descendants
from tests.chaos.conftest import Tell, times
from tests.chaos.trainings import order, training
from tests.waiting import wait_for
from tests.worker.conftest import Bench, living
from topwork.errors import StateConflict

pytestmark = pytest.mark.chaos
MOMENTS, STEPS, LIFE = 20, 6, 1.5  # A job of six naps lives about so many seconds.
HOLDS = ("staging", "publishing", "", "", "")  # Held there, or wherever it has come to.
P95, MOST = 3.0, 15.0
TRAININGS, TRAINING_EPOCHS = 8, 400
SCRIPT = dict.fromkeys(range(1, STEPS + 1), "nap")


def cancelled(bench: Bench, gate: Path, hold: str, after: float) -> tuple[str, str, float]:
    """Cancel a job some time after it was queued; return phase, end and seconds to the end."""
    (gate / "waiting").unlink(missing_ok=True)
    job_id = bench.submit(SCRIPT, steps=STEPS, always=["nap"], hold=hold)
    if hold:
        bench.wait("waiting")
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
    return hold or before.phase or before.state, job.state, seconds


def test_a_cancelled_job_stops_soon_and_never_half(
    make_bench: Callable[..., Any],
    gate: Path,
    chance: random.Random,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    with make_bench(cancel_grace_seconds=8.0, lease_seconds=3.0, heartbeat_seconds=0.5) as bench:
        ends = [cancelled(bench, gate, "", 0.0)]  # Queued, as there is no worker yet.
        bench.worker()
        bench.settles(bench.submit(steps=1))
        for number in range(max(times(MOMENTS), len(HOLDS))):
            turn = number % len(HOLDS)
            after = 0.0 if turn == len(HOLDS) - 1 else chance.uniform(0, LIFE)
            ends.append(cancelled(bench, gate, HOLDS[turn], after))
    seconds = sorted(taken for _, _, taken in ends)
    p95 = seconds[math.ceil(0.95 * len(seconds)) - 1]
    phases = sorted({phase for phase, _, _ in ends})
    late = sum(state == "succeeded" for _, state, _ in ends)
    tell(
        f"T12 {len(ends)} cancels in {', '.join(phases)}: {len(ends) - late} cancelled,"
        f" {late} had succeeded, p95 {p95:.2f} s, max {seconds[-1]:.2f} s"
    )
    record("T12 p95", p95, P95)
    assert {"queued", "staging", "publishing"} <= set(phases)
    assert seconds[-1] <= MOST


@pytest.mark.nightly
def test_a_cancelled_training_frees_its_device(
    make_bench: Callable[..., Any], tmp_path: Path, chance: random.Random, tell: Tell
) -> None:
    """Some moments fall into its steps, its checkpoints, its last save and its publication."""
    ends = []
    with training(make_bench, tmp_path) as (bench, dataset):
        worker = bench.worker(module="worker")
        bench.settles(order(bench, dataset, "calm", TRAINING_EPOCHS))
        calm = descendants(worker.pid)
        for number in range(times(TRAININGS)):
            job_id = order(bench, dataset, f"cancelled{number}", TRAINING_EPOCHS)
            progress = (number + chance.random()) / (times(TRAININGS) - 0.5)  # Or publishing.
            wait_for(lambda job_id=job_id, at=progress: has_come(bench, job_id, at), 120)
            asked_at, before = time.monotonic(), bench.job(job_id)
            with contextlib.suppress(StateConflict):
                bench.cancel(job_id)
            job = bench.reaches(job_id, "cancelled", "succeeded", "failed")
            wait_for(lambda: set(descendants(worker.pid)) <= set(calm))
            ends.append((time.monotonic() - asked_at, job.state, before.phase or before.state))
            assert job.state in ("cancelled", "succeeded")
            assert len(bench.published(job_id)) == (job.state == "succeeded")
    tell(
        f"T12 {len(ends)} cancels of trainings in {', '.join(sorted({when for *_, when in ends}))}:"
        f" {sum(state == 'cancelled' for _, state, _ in ends)} cancelled, max {max(ends)[0]:.2f} s"
    )
    assert max(ends)[0] <= MOST
    assert ends[0][1] == "cancelled"


def has_come(bench: Bench, job_id: str, progress: float) -> bool:
    job = bench.job(job_id)
    done = job.phase == "publishing" or job.state == "succeeded"
    return done or (job.state == "running" and job.progress >= min(progress, 1.0))
