"""How the service is: what answers, what waits, what was counted."""

from typing import Any

import anyio
import anyio.to_thread
import httpx2
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.service import Service
from core.db import db_now
from core.tables import Job

NEEDED = ("database", "storage")
LONGEST_CHECK = 2.0


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


def metrics(service: Service) -> bytes:
    """Return this process's counters and the state of the queue."""
    passing = CollectorRegistry()
    with service.resources.database.read() as session:
        passing.register(_Jobs(session))
        return generate_latest(service.counters.registry) + generate_latest(passing)


async def predictor_metrics(service: Service) -> bytes:
    """Return the predictor's counters; nothing where it is away."""
    try:
        answer = await service.predictor.get("/metrics", timeout=LONGEST_CHECK)
    except httpx2.TransportError:
        return b""
    return answer.content if answer.is_success else b""


async def check(service: Service) -> dict[str, str]:
    """Return `ok` or what is wrong for each part; takes two seconds at most."""
    parts = {"database": _database, "storage": _storage, "broker": _broker}
    found: dict[str, str] = dict.fromkeys((*parts, "predictor"), "no answer")

    async def look(name: str) -> None:
        with anyio.move_on_after(LONGEST_CHECK):
            found[name] = await anyio.to_thread.run_sync(
                _tried, parts[name], service, abandon_on_cancel=True
            )

    async def look_at_predictor() -> None:
        try:
            answer = await service.predictor.get("/healthz", timeout=LONGEST_CHECK)
            found["predictor"] = "ok" if answer.is_success else str(answer.status_code)
        except httpx2.TransportError as error:
            found["predictor"] = type(error).__name__

    async with anyio.create_task_group() as group:
        for name in parts:
            group.start_soon(look, name)
        group.start_soon(look_at_predictor)
    return found


def _tried(part: Any, service: Service) -> str:
    try:
        part(service)
    except Exception as error:  # noqa: BLE001 - whatever it is, the part is not well.
        return type(error).__name__
    return "ok"


def _database(service: Service) -> None:
    with service.resources.database.read() as session:
        session.execute(text("SELECT 1"))


def _storage(service: Service) -> None:
    service.resources.storage.exists("health/check")


def _broker(service: Service) -> None:
    with service.resources.celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=0, timeout=1)


def queue(session: Session) -> dict[str, Any]:
    """Return counts by state and by kind, and the age of the job that has waited longest."""
    states = select(Job.state, func.count()).group_by(Job.state)
    waiting = (
        select(Job.kind, func.count(), db_now() - func.min(Job.created_at))
        .where(Job.state == "queued")
        .group_by(Job.kind)
    )
    rows = session.execute(waiting).all()
    ages = [float(row[2]) for row in rows]
    return {
        "object": "queue",
        "states": {row[0]: row[1] for row in session.execute(states)},
        "queued": {row[0]: row[1] for row in rows},
        "oldest_seconds": round(max(ages), 3) if ages else None,
    }


def workers(session: Session) -> list[dict[str, Any]]:
    """Return each worker that holds a job, with its jobs."""
    held = select(Job).where(Job.state == "running").order_by(Job.worker, Job.id)
    found: dict[str, list[dict[str, Any]]] = {}
    for job in session.scalars(held):
        entry = {"id": job.id, "kind": job.kind, "phase": job.phase, "progress": job.progress}
        found.setdefault(str(job.worker), []).append(entry)
    return [{"id": owner, "object": "worker", "jobs": jobs} for owner, jobs in found.items()]
