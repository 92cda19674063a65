"""The one Celery task: the doorbell rang, so look for work."""

from celery import Celery

from core.store.broker import WORK
from worker.runner import Runner


def register(celery: Celery, runner: Runner) -> None:
    """Answer the doorbell with this runner; whatever a message carries is ignored."""

    @celery.task(name=WORK, typing=False)  # type: ignore[untyped-decorator]  # Celery has no types.
    def work(*_args: object, **_kwargs: object) -> None:
        runner.work()
