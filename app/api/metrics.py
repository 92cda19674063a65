"""`/metrics`: Prometheus text from api processes, the database and the predictor."""

from collections.abc import Sequence
from typing import Any

import httpx2
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from app.api.state import Service
from core.domain import audit, workers
from core.store.db import db_now
from core.store.tables import Chore, Job
from core.system.settings import Settings
from topwork.kinds import STORED, JobKind, JobState

LONGEST_WAIT = 2.0  # Seconds for the predictor's part.


class _Jobs(Collector):
    """Jobs by kind, state and error, how often they were tried, and who waits, when asked."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def collect(self) -> list[Metric]:
        jobs = GaugeMetricFamily("topwork_jobs", "Jobs.", labels=["kind", "state"])
        tried = GaugeMetricFamily(
            "topwork_job_attempts", "Attempts at these jobs.", labels=["kind", "state"]
        )
        stalled = GaugeMetricFamily(
            "topwork_job_stalls",
            "Crashes of these jobs since their last progress.",
            labels=["kind", "state"],
        )
        lost = GaugeMetricFamily(
            "topwork_job_losses",
            "Losses of worker or machine of these jobs since their last progress.",
            labels=["kind", "state"],
        )
        sums = [func.sum(column) for column in (Job.attempt, Job.stalls, Job.losses)]
        states = select(Job.kind, Job.state, func.count(), *sums).group_by(Job.kind, Job.state)
        # What there is none of is told as well, so that a graph has no gaps.
        counts = {(kind, state): [0, 0, 0, 0] for kind in JobKind for state in STORED}
        counts |= {(kind, state): numbers for kind, state, *numbers in self._rows(states)}
        for labels, numbers in counts.items():
            for family, number in zip((jobs, tried, stalled, lost), numbers, strict=True):
                family.add_metric(labels, number)
        failed = GaugeMetricFamily(
            "topwork_jobs_failed", "Failed jobs by error code.", labels=["kind", "code"]
        )
        code = Job.error["code"].as_string()
        codes = select(Job.kind, code, func.count()).where(Job.state == JobState.FAILED)
        for kind, name, number in self._rows(codes.group_by(Job.kind, code)):
            failed.add_metric([kind, name or "unknown"], number)
        oldest = GaugeMetricFamily(
            "topwork_queue_oldest_seconds", "Since the job was made that has waited longest."
        )
        made = select(db_now() - func.min(Job.created_at)).where(Job.state == JobState.QUEUED)
        ((seconds,),) = self._rows(made)
        oldest.add_metric([], seconds or 0.0)
        return [jobs, tried, stalled, lost, failed, oldest]

    def _rows(self, wanted: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        return self._session.execute(wanted).all()


class _Audit(Collector):
    """How many entries the audit log has; its entries are never removed."""

    def __init__(self, session: Session) -> None:
        self._entries = audit.head(session).seq

    def collect(self) -> list[Metric]:
        return [CounterMetricFamily("topwork_audit_entries", "Audit log.", value=self._entries)]


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
        slots = GaugeMetricFamily("topwork_worker_slots", "Long jobs that can run at once.")
        slots.add_metric([], sum(worker.slots for worker in self._alive))
        return [known, slots]


def render(service: Service) -> bytes:
    """Return the counters of the api processes here and the state of the queue."""
    passing = CollectorRegistry()
    with service.resources.database.read() as session:
        passing.register(_Jobs(session))
        passing.register(_Audit(session))
        passing.register(_Upkeep(session))
        passing.register(_Workers(session, service.resources.settings))
        return service.counters.text() + generate_latest(passing)


async def of_predictor(service: Service) -> bytes:
    """Return the predictor's counters; nothing where it is away."""
    try:
        answer = await service.predictor.get("/metrics", timeout=LONGEST_WAIT)
    except httpx2.TransportError:
        return b""
    return answer.content if answer.is_success else b""
