"""Exports of model versions: ordered once for each format, published by the job that made them."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.domain import jobs, registry, usage
from core.store.row_access import owner_of
from core.store.tables import Job, ModelExport, ModelVersion
from core.system.settings import Settings
from topwork.errors import ExportNotFound
from topwork.kinds import ExportFormat, JobKind, JobState

UNMADE = (JobState.FAILED, JobState.CANCELLED)


def order(session: Session, settings: Settings, version: ModelVersion, form: ExportFormat) -> Job:
    """Return the job that makes, or has made, this export; a new one only where there is none.

    A job that failed or was cancelled does not count.

    Raises:
        QueueFull: Too many jobs wait.
        QuotaExceeded: The owner may not store so much.
    """
    size = int(version.files["weights.safetensors"]["size"])
    usage.in_line(session)
    registry.get(session, version.name, lock=True)  # Two orders at once are one.
    wanted = select(Job).where(
        Job.kind == JobKind.EXPORT,
        Job.state.not_in(UNMADE),
        Job.config["version"].as_string() == version.id,
        Job.config["format"].as_string() == form,
    )
    found = session.scalars(wanted.order_by(Job.id.desc()).limit(1)).first()
    if found is not None:
        return found
    usage.check_queue(session, settings, owner_of(session))
    usage.check_bytes(session, settings, owner_of(session), size)
    config = {
        "name": version.name, "number": version.number, "version": version.id, "format": form
    }  # fmt: skip
    return jobs.submit(session, kind=JobKind.EXPORT, config=config)


def publish(session: Session, version: ModelVersion, form: str, **made: Any) -> ModelExport:
    """Add an export, or replace an earlier one whose job was forgotten.

    `made` are its `prefix`, `files` and `report`.
    """
    registry.get(session, version.name, lock=True)  # It may be about to be deleted.
    earlier = session.get(ModelExport, (version.id, form))
    if earlier is not None:
        session.delete(earlier)
        session.flush()
    export = ModelExport(version_id=version.id, format=form, **made)
    session.add(export)
    session.flush()
    return export


def of(session: Session, version: ModelVersion) -> list[ModelExport]:
    """Return the exports of a version by format."""
    wanted = select(ModelExport).where(ModelExport.version_id == version.id)
    return list(session.scalars(wanted.order_by(ModelExport.format)))


def get(session: Session, version: ModelVersion, form: str) -> ModelExport:
    """Return one export, or raise ExportNotFound."""
    found = session.get(ModelExport, (version.id, form))
    if found is None:
        message = f"{version.name}@{version.number} was not exported as {form}"
        raise ExportNotFound(message, param="format")
    return found
