"""The sweep goes on whatever one of its rounds meets, and says that the worker is there."""

import dataclasses

import pytest

from core import leases, workers
from core.resources import Resources
from core.settings import Settings
from tests.waiting import wait_for
from worker.reconcile import Reconciler
from worker.runner import Runner


def test_an_unexpected_error_ends_one_sweep_only(
    resources: Resources, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []

    def sweep(*_arguments: object) -> int:
        rounds.append(1)
        if len(rounds) == 1:
            message = "nobody thought of this"
            raise RuntimeError(message)
        return 0

    monkeypatch.setattr(leases, "sweep", sweep)
    quick = settings.model_copy(update={"sweep_seconds": 0.05, "warm_start": False})
    runner = Runner(dataclasses.replace(resources, settings=quick), 1, {})
    reconciler = Reconciler(runner)
    reconciler.start()
    wait_for(lambda: len(rounds) > 2)
    with resources.database.read() as session:
        assert [worker.id for worker in workers.alive(session, settings)] == [runner.owner]
    runner.draining.set()
    reconciler.join()
    with resources.database.read() as session:
        assert workers.alive(session, settings) == []
