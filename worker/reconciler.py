"""Reconciler: takes back jobs of dead workers, and finds those whose doorbell was lost."""

import contextlib
import threading
import time
from pathlib import Path

import structlog

from core.domain import leases, workers
from core.store.db import AWAY
from core.system import readiness_signal
from core.system.settings import Settings
from worker.cleanup import Upkeep
from worker.courier import AT_ONCE, Courier
from worker.liveness import Presence
from worker.runner import Runner

log = structlog.get_logger()


class Reconciler(threading.Thread):
    """Sweeps at once and then every `sweep_seconds`, and takes queued jobs itself.

    That second path to a job needs no broker: without one, jobs start a sweep later.
    """

    def __init__(self, runner: Runner) -> None:
        super().__init__(name="reconciler", daemon=True)
        self._runner = runner
        self._settings = runner.resources.settings
        self._helpers: list[threading.Thread] = []

    def run(self) -> None:
        """Sweep until the worker drains, then wait for the jobs taken here."""
        alive = alive_file(self._settings)
        draining = self._runner.draining
        Upkeep(self._runner.resources, draining).start()
        for _ in range(AT_ONCE):
            Courier(self._runner.resources, draining).start()
        presence = None
        with contextlib.ExitStack() as while_here:
            while not draining.is_set():
                try:
                    presence = presence or while_here.enter_context(self._presence())
                    self._sweep(presence)
                    alive.parent.mkdir(parents=True, exist_ok=True)
                    alive.write_text(self._runner.owner)
                    readiness_signal.announce()
                    self._help()
                except Exception:
                    # Whatever it is, lost jobs must be found once it is over.
                    log.exception("sweep.failed")
                draining.wait(self._settings.sweep_seconds)
            for helper in self._helpers:
                helper.join()
            self._leave()

    def _presence(self) -> Presence:
        return Presence(self._settings.data_dir / "workers", self._runner.owner)

    def _sweep(self, presence: Presence) -> None:
        database = self._runner.resources.database
        with database.write() as session:
            workers.seen(session, self._runner.owner, self._runner.slots)
        for owner in presence.dead():
            with database.write() as session:
                leases.abandon(session, owner)
                workers.gone(session, owner)
        leases.sweep(database, self._settings)

    def _leave(self) -> None:
        with contextlib.suppress(*AWAY), self._runner.resources.database.write() as session:
            workers.gone(session, self._runner.owner)

    def _help(self) -> None:
        self._helpers = [thread for thread in self._helpers if thread.is_alive()]
        if len(self._helpers) < self._runner.most:
            helper = threading.Thread(target=self._runner.work, name="unrung", daemon=True)
            helper.start()
            self._helpers.append(helper)


def alive_file(settings: Settings) -> Path:
    """Return the file that a worker touches with each sweep that reached the database."""
    return settings.run_dir / "worker.alive"


def is_alive(settings: Settings) -> bool:
    """Tell whether a worker of this data folder has swept lately."""
    try:
        age = time.time() - alive_file(settings).stat().st_mtime
    except FileNotFoundError:
        return False
    return age < workers.LATE * settings.sweep_seconds
