"""Usage and quotas: what an owner has stored and queued, and whether more is allowed."""

from dataclasses import dataclass

from sqlalchemy import Float, case, cast, func, select
from sqlalchemy.orm import Session

from core.domain import job_uploads, predictions
from core.store.row_access import EVERYONE
from core.store.tables import (
    Dataset,
    DatasetVersion,
    Job,
    Model,
    ModelExport,
    ModelVersion,
    PartialUpload,
)
from core.system.settings import Settings
from topwork.errors import QueueFull, QuotaExceeded
from topwork.kinds import JobState

# A job that was paused before it began would otherwise make room for another without end.
WAITING = (JobState.QUEUED, JobState.WAITING, JobState.PAUSED)
LINE = 8_021_127  # Any constant: of the lock for whoever looks at a limit and then adds a row.


@dataclass(frozen=True)
class Usage:
    """What one owner takes up: bytes by kind of object, and jobs that wait."""

    datasets: int
    models: int
    uploads: int
    predictions: int
    queued_jobs: int

    @property
    def stored(self) -> int:
        """Bytes in all."""
        return self.datasets + self.models + self.uploads + self.predictions


def of(session: Session, owner: str) -> Usage:
    """Count an owner's objects.

    A dataset counts as much as its largest version, since versions share their images; one whose
    archive is still there counts as much as that, or as what is being stored of it, an upload as
    much as was announced.
    """
    return Usage(
        datasets=_datasets(session, owner) + _arriving(session, owner),
        models=_models(session, owner),
        uploads=_total(
            session, select(func.sum(PartialUpload.length)).where(PartialUpload.owner == owner)
        ),
        predictions=predictions.stored_bytes(session, owner),
        queued_jobs=_total(
            session,
            select(func.count()).select_from(Job).where(Job.owner == owner, Job.state.in_(WAITING)),
        ),
    )


def in_line(session: Session) -> None:
    """Wait for every other transaction that holds a limit; SQLite has one writer at a time anyway.

    Whoever also locks a row does this first.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(LINE)))


def check_queue(session: Session, settings: Settings, owner: str, counted: int = 0) -> None:
    """Raise QueueFull when no further job of this owner, or of anybody, is taken.

    Until the transaction ends nobody else is answered. `counted` jobs of the caller's are among
    those that wait already.
    """
    in_line(session)
    queued = select(func.count()).select_from(Job).where(Job.state.in_(WAITING))
    if _total(session, queued) - counted >= settings.max_queued_jobs:
        raise QueueFull
    own = _total(session, queued.where(Job.owner == owner))
    if own - counted >= settings.max_queued_jobs_per_owner:
        raise QueueFull("too many of your jobs are waiting")


def check_bytes(session: Session, settings: Settings, owner: str, coming: int) -> None:
    """Raise QuotaExceeded when the owner may not store `coming` bytes more.

    Until the transaction ends nobody else is answered.
    """
    in_line(session)
    left = room(session, settings, owner)
    if left is not None and coming > left:
        most = settings.max_bytes_per_owner
        over = f"{coming} more bytes would exceed" if coming else f"{-left} bytes too many for"
        raise QuotaExceeded(f"{over} the {most} that you may store")


def charge(session: Session, settings: Settings, job: Job, owner: str, size: int) -> None:
    """Count what the upload of an owner's dataset has unpacked to in its place, while its job runs.

    Asked before the first byte of it is stored, with the job's row held for writing, so that what
    several jobs store at once counts as a whole.

    Raises:
        QuotaExceeded: The owner may not store so much.
    """
    job.config = job.config | {"unpacked": size}
    session.flush()
    check_bytes(session, settings, owner, 0)


def room(session: Session, settings: Settings, owner: str) -> int | None:
    """Return how many bytes more an owner may store, below 0 where it is too much; None: any."""
    most = settings.max_bytes_per_owner
    return most - of(session, owner).stored if most else None


def room_to_unpack(session: Session, settings: Settings, job: Job, owner: str) -> int | None:
    """Return how many bytes a running job may unpack an owner's upload to; None: any number.

    What counts for that upload makes room: its own bytes, or what an earlier attempt has charged.
    """
    left = room(session, settings, owner)
    counted = "unpacked" if "unpacked" in job.config else "bytes"
    return None if left is None else left + int(job.config.get(counted, 0))


def _datasets(session: Session, owner: str) -> int:
    size = cast(DatasetVersion.summary["bytes"].as_string(), Float)
    largest = (
        select(func.max(size).label("bytes"))
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Dataset.owner == owner)
        .group_by(DatasetVersion.dataset_id)
        .subquery()
    )
    return _total(session, select(func.sum(largest.c.bytes)))


def _arriving(session: Session, owner: str) -> int:
    sent, unpacked = (cast(Job.config[name].as_string(), Float) for name in ("bytes", "unpacked"))
    size = func.coalesce(case((Job.state == JobState.RUNNING, unpacked)), sent)
    sizes = select(func.sum(size)).join(Dataset, Dataset.job_id == Job.id)
    return _total(session, sizes.where(Dataset.owner == owner, Dataset.upload.is_not(None)))


def _models(session: Session, owner: str) -> int:
    own = select(ModelVersion.id).join(Model, Model.name == ModelVersion.name)
    own = own.where(Model.owner == owner)
    versions = select(ModelVersion.files).where(ModelVersion.id.in_(own))
    exports = select(ModelExport.files).where(ModelExport.version_id.in_(own))
    coming = job_uploads.stored_bytes(session, owner, job_uploads.IMPORTING)
    return coming + sum(
        int(file["size"])
        for wanted in (versions, exports)
        for files in session.scalars(wanted, execution_options=EVERYONE)
        for file in files.values()
    )


def _total(session: Session, wanted: object) -> int:
    return int(session.execute(wanted, execution_options=EVERYONE).scalar_one() or 0)  # type: ignore[call-overload] # Any SELECT of one number.
