"""The resources of one api process, open from its start to its end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio
import structlog

from app.api.dry_run import Previews
from app.api.event_stream import Watch
from app.api.manifests import Manifests
from app.api.notifier import Doorbell
from app.api.predictor_client import PredictorClient
from app.api.readiness import Readiness
from app.api.reading import READERS
from app.api.thumbnails import Thumbnails
from app.api.uploads import resumable
from app.api.uploads.multipart_archive import remove_abandoned
from app.asgi.memory_budget import Admission
from app.asgi.metrics import Counters
from core.domain import leases
from core.store.resources import Resources, open_resources
from core.system.settings import MEBIBYTE, Settings
from topwork.errors import Unavailable

log = structlog.get_logger()
PARSERS = 1  # Forms of uploads at the same moment: parsing one holds the interpreter.
ROOMY_REQUESTS, ROOMY_BYTES = 100, 256 * MEBIBYTE  # Bodies of 16 MiB that count four times.


@dataclass(frozen=True)
class Service:
    """Handles that routes share."""

    resources: Resources
    readers: anyio.CapacityLimiter
    parsers: anyio.CapacityLimiter
    predictor: PredictorClient
    watch: Watch
    manifests: Manifests
    thumbnails: Thumbnails
    counters: Counters
    admission: Admission
    readiness: Readiness
    previews: Previews
    roomy: Admission


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Service]:
    """Open everything an api process needs, and look after lost jobs meanwhile."""
    with (
        Doorbell() as doorbell,
        open_resources(settings, doorbell) as resources,
        _reconciling(resources),
    ):
        async with PredictorClient(settings) as predictor:
            watch = Watch(resources.database, asyncio.Event(), most=settings.max_streams_per_owner)
            manifests = Manifests(resources.storage)
            async with watch.running():
                yield Service(
                    resources,
                    anyio.CapacityLimiter(READERS),
                    anyio.CapacityLimiter(PARSERS),
                    predictor,
                    watch,
                    manifests,
                    Thumbnails(resources.storage, manifests, settings.max_image_pixels),
                    Counters(),
                    _admission(settings),
                    Readiness(resources, predictor),
                    Previews(settings),
                    Admission(ROOMY_REQUESTS, ROOMY_BYTES, Unavailable),
                )
                await watch.stop()


def _admission(settings: Settings) -> Admission:
    # JSON of the largest size counts some four times `max_predict_bytes`, and an owner gets half.
    least = 10 * settings.max_predict_bytes
    return Admission(settings.predict_queue, max(settings.predict_memory_bytes, least))


@contextmanager
def _reconciling(resources: Resources) -> Iterator[None]:
    """Sweep for lost jobs in a thread of its own; every api and worker process does."""
    stop = threading.Event()
    thread = threading.Thread(target=_sweep, args=(resources, stop), name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _sweep(resources: Resources, stop: threading.Event) -> None:
    settings = resources.settings
    while not stop.wait(settings.sweep_seconds):
        try:
            remove_abandoned(settings)
            resumable.tidy(resources)
            moved = leases.sweep(resources.database, settings)
        except Exception:
            # The database may be away for a while; the next sweep finds the same jobs.
            log.exception("sweep.failed")
        else:
            if moved:
                log.info("sweep.moved", jobs=moved)
