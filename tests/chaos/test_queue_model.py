"""T16: 2000 random sequences of what users, workers and the sweep do, against a model."""

import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, seed
from hypothesis import settings as effort
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.conftest import SEED, Tell, opened, times
from tests.core.queue_model import QueueMachine

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
SEQUENCES, STEPS = {"sqlite": 1500, "postgres": 500}, 15
MOST_SECONDS = 90.0  # For each of the two.
HASTE = "-c synchronous_commit=off"  # What survives a power cut is not the question here.


def test_the_queue_behaves_as_its_model(
    either_database: tuple[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    name, environment = either_database
    count = times(SEQUENCES[name])
    long = effort(
        max_examples=count,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    monkeypatch.setenv("PGOPTIONS", HASTE)
    began = time.monotonic()
    with opened(environment) as resources:
        few = resources.settings.model_copy(update={"max_losses": 3})
        QueueMachine.database, QueueMachine.settings = resources.database, few
        run_state_machine_as_test(seed(SEED)(QueueMachine), settings=long)
    seconds = time.monotonic() - began
    tell(f"T16 {name}: {count} sequences of up to {STEPS} steps, 0 violations, {seconds:.1f} s")
    record(f"T16 {name}", seconds, MOST_SECONDS * max(1.0, count / SEQUENCES[name]))
