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
SEQUENCES, STEPS = 1000, 20  # On each of two databases.
MOST_SECONDS = 90.0


def test_the_queue_behaves_as_its_model(
    either_database: tuple[str, dict[str, str]],
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    name, environment = either_database
    count = times(SEQUENCES)
    long = effort(
        max_examples=count,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    began = time.monotonic()
    with opened(environment) as resources:
        QueueMachine.database, QueueMachine.settings = resources.database, resources.settings
        run_state_machine_as_test(seed(SEED)(QueueMachine), settings=long)
    seconds = time.monotonic() - began
    tell(f"T16 {name}: {count} sequences of up to {STEPS} steps, 0 violations, {seconds:.1f} s")
    record(f"T16 {name}", seconds, MOST_SECONDS * count / SEQUENCES)
