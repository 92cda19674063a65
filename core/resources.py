"""What a process needs of the outside, made once at its start and closed at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celery import Celery

from core.db import Database
from core.queue import make_celery, ring
from core.settings import Settings
from core.storage import Storage


@dataclass(frozen=True)
class Resources:
    """Handles that are safe to share between threads."""

    settings: Settings
    database: Database
    storage: Storage
    celery: Celery


@contextmanager
def open_resources(settings: Settings) -> Iterator[Resources]:
    """Open database, storage and broker; nothing is contacted before its first use."""
    celery = make_celery(settings.broker_url)
    database = Database(settings.database_url, after_commit=lambda: ring(celery))
    try:
        yield Resources(settings, database, Storage(settings.storage_url), celery)
    finally:
        database.close()
        celery.close()
