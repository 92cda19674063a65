"""Database, storage and broker of a process, opened at its start and closed at its end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celery import Celery

from core.store.broker import make_celery, ring
from core.store.db import Database
from core.store.object_store import Storage
from core.system.settings import Settings


@dataclass(frozen=True)
class Resources:
    """Handles that are safe to share between threads."""

    settings: Settings
    database: Database
    storage: Storage
    celery: Celery


@contextmanager
def open_resources(
    settings: Settings, doorbell: Callable[[Celery], None] = ring
) -> Iterator[Resources]:
    """Open database, storage and broker; nothing is contacted before its first use.

    `doorbell` is called after each commit that left work to do.
    """
    celery = make_celery(settings.broker_url)
    database = Database(settings.database_url, after_commit=lambda: doorbell(celery))
    try:
        storage = Storage(settings.storage_url, settings.storage_secret_key)
        yield Resources(settings, database, storage, celery)
    finally:
        database.close()
        celery.close()
