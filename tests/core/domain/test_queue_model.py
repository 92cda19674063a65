"""A small run of the queue's model; `make chaos` runs it long, also on Postgres."""

from hypothesis import HealthCheck
from hypothesis import settings as effort
from hypothesis.stateful import run_state_machine_as_test

from core.store.resources import Resources
from tests.core.queue_model import QueueMachine

SEQUENCES, STEPS = 40, 20


def test_the_queue_behaves_as_its_model(resources: Resources) -> None:
    few = resources.settings.model_copy(update={"max_losses": 3})
    QueueMachine.database, QueueMachine.settings = resources.database, few
    quick = effort(
        max_examples=SEQUENCES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(QueueMachine, settings=quick)
