"""The sweep goes on whatever one of its rounds meets, and says that the worker is there."""

import dataclasses

import pytest
from structlog.testing import capture_logs

from core.domain import leases, workers
from core.store.resources import Resources
from core.system.settings import Settings
from tests.waiting import wait_for
from worker.reconciler import Reconciler, is_alive
from worker.runner import Runner


def test_a_worker_that_cannot_show_itself_at_first_sweeps_later(
    resources: Resources, settings: Settings
) -> None:
    quick = settings.model_copy(update={"sweep_seconds": 0.05, "warm_start": False})
    in_the_way = quick.data_dir / "workers"
    in_the_way.touch()
    runner = Runner(dataclasses.replace(resources, settings=quick), 1, {})
    reconciler = Reconciler(runner)
    with capture_logs() as logs:
        reconciler.start()
        wait_for(lambda: [entry for entry in logs if entry["event"] == "sweep.failed"])
        in_the_way.unlink()
        wait_for(lambda: is_alive(quick))
        assert (in_the_way / runner.owner).is_file()
        runner.draining.set()
        reconciler.join()
    assert list(in_the_way.iterdir()) == []


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
