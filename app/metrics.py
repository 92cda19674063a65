"""What is counted, as Prometheus text: by this process, in the database, by the predictor."""

import httpx2
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.service import Service
from core import workers
from core.settings import Settings
from core.tables import Chore, Job

LONGEST_WAIT = 2.0  # Seconds for the predictor's part.


class _Jobs(Collector):
    """Jobs by kind and state, counted when asked."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily("topwork_jobs", "Jobs.", labels=["kind", "state"])
        counts = select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)
        for kind, state, number in self._session.execute(counts):
            family.add_metric([kind, state], number)
        return [family]


class _Upkeep(Collector):
    """What has been removed from storage since the beginning, by whichever process."""

    def __init__(self, session: Session) -> None:
        self._chores = list(session.scalars(select(Chore)))

    def collect(self) -> list[Metric]:
        objects = CounterMetricFamily(
            "topwork_removed_objects", "Objects that no row referred to.", labels=["chore"]
        )
        size = CounterMetricFamily(
            "topwork_removed_bytes", "Bytes of such objects.", labels=["chore"]
        )
        began = GaugeMetricFamily(
            "topwork_chore_began_seconds", "Epoch seconds of the last run.", labels=["chore"]
        )
        for chore in self._chores:
            objects.add_metric([chore.name], chore.objects)
            size.add_metric([chore.name], chore.bytes)
            began.add_metric([chore.name], chore.began_at)
        return [objects, size, began]


class _Workers(Collector):
    """How many jobs can run at once now."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._alive = workers.alive(session, settings)

    def collect(self) -> list[Metric]:
        known = GaugeMetricFamily("topwork_workers", "Workers seen lately.")
        known.add_metric([], len(self._alive))
        slots = GaugeMetricFamily("topwork_worker_slots", "Jobs that can run at once.")
        slots.add_metric([], sum(worker.slots for worker in self._alive))
        return [known, slots]


def render(service: Service) -> bytes:
    """Return this process's counters and the state of the queue."""
    passing = CollectorRegistry()
    with service.resources.database.read() as session:
        passing.register(_Jobs(session))
        passing.register(_Upkeep(session))
        passing.register(_Workers(session, service.resources.settings))
        return generate_latest(service.counters.registry) + generate_latest(passing)


async def of_predictor(service: Service) -> bytes:
    """Return the predictor's counters; nothing where it is away."""
    try:
        answer = await service.predictor.get("/metrics", timeout=LONGEST_WAIT)
    except httpx2.TransportError:
        return b""
    return answer.content if answer.is_success else b""
