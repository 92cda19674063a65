"""Start a worker: `python -P -m worker`; `--check` tells whether one is alive."""

import argparse
import logging
import signal
import sys
import warnings
from collections.abc import Mapping

import structlog
from celery import Celery, signals
from celery.apps.worker import Worker
from celery.exceptions import SecurityWarning
from celery.platforms import EX_OK
from celery.worker import state

from core.store.resources import open_resources
from core.system import process_start
from core.system.log import configure
from core.system.optional_packages import TorchMissing, require_torch
from core.system.settings import Settings, read_settings
from worker import tasks
from worker.kinds.kind import Work
from worker.kinds.registry import WORKS
from worker.reconciler import Reconciler, is_alive
from worker.runner import GRACE, Runner

PAUSE = 1.0  # Seconds before Celery is started again after it broke down.
log = structlog.get_logger()


def serve(
    settings: Settings, slots: int, works: Mapping[str, Work] = WORKS, grace: float = GRACE
) -> None:
    """Run jobs until SIGTERM, then hand back what runs within `grace` seconds and leave."""
    with open_resources(settings) as resources:
        runner = Runner(resources, slots, works, grace)
        tasks.register(resources.celery, runner)

        def drain(number: int, _frame: object) -> None:
            runner.drain()
            state.should_stop = EX_OK
            if number == signal.SIGINT:  # The next Ctrl-C does not wait for anything.
                signal.signal(signal.SIGINT, signal.SIG_DFL)

        signal.signal(signal.SIGTERM, drain)
        signal.signal(signal.SIGINT, drain)
        reconciler = Reconciler(runner)
        reconciler.start()
        try:
            with runner.warm:
                listen(resources.celery, runner)
        finally:
            runner.drain()
            reconciler.join()


def listen(celery: Celery, runner: Runner) -> None:
    """Answer the doorbell until this worker drains.

    Celery gives up on a message that is no JSON object, as anybody who reaches the broker can
    push one. It has taken the message by then, so it is started again and goes on behind it.
    """
    # Celery warns at length when run as root; containers do not, a laptop's owner may.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    celery.Worker = celery.subclass_with_self(Listener)
    # A receiver of this signal is how Celery is told to leave the loggers alone.
    signals.setup_logging.connect(leave_logging_alone)
    logging.getLogger("celery").setLevel(logging.WARNING)
    celery.conf.worker_enable_remote_control = False  # Its commands come over the broker too.
    arguments = ["-P", "threads", "-c", str(runner.most), "-n", runner.owner]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    while not runner.draining.is_set():
        celery.worker_main(["-q", "worker", *arguments, *quiet])
        if not runner.draining.wait(PAUSE):
            log.warning("doorbell.restarts")


class Listener(Worker):  # type: ignore[misc]  # Celery has no types.
    """Celery's worker without its signal handlers.

    They write to the terminal before they stop anything, and may have to wait for it for ever; on
    SIGHUP they would start this program again with whatever modules lie in the current folder.
    """

    def install_platform_tweaks(self, worker: object) -> None:
        """Leave signals to `serve`."""


def leave_logging_alone(**_celery: object) -> None:
    """Do nothing: `core.system.log` has set up everything."""


def main() -> int:
    """Read the command line."""
    process_start.begin()
    parser = argparse.ArgumentParser(prog="python -P -m worker", description=__doc__)
    parser.add_argument("--slots", type=int, default=1, help="long jobs at once")
    parser.add_argument("--grace", default=GRACE, type=float, help="seconds to hand back what runs")
    parser.add_argument("--check", action="store_true", help="exit 0 if a worker is alive")
    options = parser.parse_args()
    settings = read_settings()
    if options.check:
        return 0 if is_alive(settings) else 1
    try:
        require_torch()
    except TorchMissing as missing:
        sys.exit(f"{missing.message} {missing.hint}")
    configure()
    serve(settings, options.slots, grace=options.grace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
