"""The rows every process agrees on. Times are epoch seconds of the database's clock."""

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Float, ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from core.store.db import db_now
from core.store.row_access import Owned
from core.system.ids import new_id
from topwork.kinds import STORED, DatasetState, DeliveryState, JobState

Object = dict[str, Any]


class Row(DeclarativeBase):
    """A table row whose JSON columns are plain dicts."""

    # SQLAlchemy reads it from the class.
    type_annotation_map = {Object: JSON, float: Float, str: String}  # noqa: RUF012 - as above.


class Dataset(Owned, Row):
    """A named set of labelled images; its content lives in immutable versions."""

    __tablename__ = "dataset"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("ds"))
    name: Mapped[str]
    state: Mapped[str] = mapped_column(default=DatasetState.INGESTING)
    job_id: Mapped[str | None]  # The ingest job that fills the first version.
    upload: Mapped[str | None]  # Storage key of the uploaded archive until it is ingested.
    error: Mapped[Object | None]
    user_metadata: Mapped[Object] = mapped_column(default=dict)
    created_at: Mapped[float] = mapped_column(default=db_now())


class PartialUpload(Owned, Row):
    """An archive that arrives in pieces; its bytes so far lie in a file of this id."""

    __tablename__ = "partial_upload"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("up"))
    length: Mapped[int] = mapped_column(BigInteger)  # Bytes in all.
    filename: Mapped[str | None]
    upload_metadata: Mapped[str]  # As the client sent it.
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float]


class DatasetVersion(Row):
    """One immutable manifest: images, classes frozen by name, and the split."""

    __tablename__ = "dataset_version"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str]  # sha256 of manifest.jsonl
    prefix: Mapped[str]  # Storage prefix of manifest.jsonl, dataset.json and report.jsonl.
    summary: Mapped[Object]  # dataset.json: classes, counts, findings.
    created_at: Mapped[float] = mapped_column(default=db_now())


class DatasetShard(Row):
    """Which versions of datasets have images in a shard; a shard without a row is garbage."""

    __tablename__ = "dataset_shard"

    shard: Mapped[str] = mapped_column(primary_key=True)  # sha256 of the tar
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class Job(Owned, Row):
    """A unit of work; this row, not the broker's message, is the truth about it."""

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint("state IN " + str(tuple(map(str, STORED))), name="job_state"),
        Index("job_queue", "state", "priority", "id"),
        Index("job_lease", "state", "lease_until"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("job"))
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(default=JobState.QUEUED)
    phase: Mapped[str | None]
    priority: Mapped[int] = mapped_column(default=1)  # Lower runs first; see jobs.PRIORITIES.
    config: Mapped[Object] = mapped_column(default=dict)
    plan: Mapped[Object | None]
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id"), index=True)
    dataset_version: Mapped[int | None]
    user_metadata: Mapped[Object] = mapped_column(default=dict)
    request_id: Mapped[str | None]  # Of the request that submitted it.

    attempt: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)  # Rises with each claim; guards each write.
    worker: Mapped[str | None]  # Which process holds the lease.
    lease_until: Mapped[float | None]
    cancel_requested_at: Mapped[float | None]
    pause_requested_at: Mapped[float | None]
    last_step: Mapped[int] = mapped_column(default=0)
    progressed: Mapped[bool] = mapped_column(default=False)  # In this attempt, or the last.
    # Attempts without progress since the last: broken off by the job's own process, lost with their
    # worker or machine, ended by a full disk.
    stalls: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    shortages: Mapped[int] = mapped_column(default=0)
    fault: Mapped[str | None]  # Digest of the exception that ended the last attempt that crashed.

    progress: Mapped[float] = mapped_column(default=0.0)
    eta: Mapped[float | None]  # Seconds left, by the running process's own estimate.
    reason: Mapped[str | None]  # Why the job is not running, in words.
    lacks: Mapped[str | None]  # What a queued job waits for: disk, worker.
    not_before: Mapped[float | None]  # A queued job that lacks something is not claimed earlier.
    result: Mapped[Object | None]
    error: Mapped[Object | None]
    last_seq: Mapped[int] = mapped_column(default=0)  # Number of the newest event.

    created_at: Mapped[float] = mapped_column(default=db_now())
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]


class JobCheckpoint(Row):
    """The files in storage from which another host goes on with a job; see `checkpoints`."""

    __tablename__ = "job_checkpoint"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    fence: Mapped[int]  # Of the attempt that named them.
    files: Mapped[Object]  # Path -> {key, sha256, size}.


class JobEvent(Row):
    """One thing that happened to a job; append-only, written with the change it describes."""

    __tablename__ = "job_event"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(default=db_now())
    fence: Mapped[int]
    kind: Mapped[str]
    data: Mapped[Object] = mapped_column(default=dict)


class Model(Owned, Row):
    """A name under which versions of a classifier are published."""

    __tablename__ = "model"

    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str | None]
    user_metadata: Mapped[Object] = mapped_column(default=dict)
    created_at: Mapped[float] = mapped_column(default=db_now())


class ModelVersion(Row):
    """One published artefact. It exists exactly when its job's success was committed."""

    __tablename__ = "model_version"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("mv"))
    name: Mapped[str] = mapped_column(ForeignKey("model.name"), index=True)
    number: Mapped[int]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"), unique=True)
    digest: Mapped[str]  # sha256 of weights.safetensors
    prefix: Mapped[str]  # Storage prefix of the artefact's files.
    files: Mapped[Object]  # File name -> {sha256, size}.
    card: Mapped[Object]
    created_at: Mapped[float] = mapped_column(default=db_now())

    __table_args__ = (Index("model_version_number", "name", "number", unique=True),)


class ModelExport(Row):
    """A version as a file for other programs; its job's success made it, one for each format."""

    __tablename__ = "model_export"

    version_id: Mapped[str] = mapped_column(ForeignKey("model_version.id"), primary_key=True)
    format: Mapped[str] = mapped_column(primary_key=True)
    prefix: Mapped[str]  # Storage prefix of its files.
    files: Mapped[Object]  # File name -> {sha256, size}.
    report: Mapped[Object]  # How its answers compare with those of the service.
    created_at: Mapped[float] = mapped_column(default=db_now())


class ModelCounter(Row):
    """The highest number a name has ever had; it outlives the model, so none is given twice."""

    __tablename__ = "model_counter"

    name: Mapped[str] = mapped_column(primary_key=True)
    last_number: Mapped[int]


class Alias(Row):
    """A movable pointer to a version: `pets@production`."""

    __tablename__ = "alias"

    name: Mapped[str] = mapped_column(ForeignKey("model.name"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    updated_at: Mapped[float] = mapped_column(default=db_now())


class AliasMove(Owned, Row):
    """One move of an alias and what it rested on; only added, gone with its model."""

    __tablename__ = "alias_move"

    name: Mapped[str] = mapped_column(ForeignKey("model.name"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    number: Mapped[int | None]  # Where it points since; None where it was removed.
    previous: Mapped[int | None]
    evidence: Mapped[Object | None]
    created_at: Mapped[float] = mapped_column(default=db_now())


class Webhook(Owned, Row):
    """An address that is told of its owner's events, one delivery after the other."""

    __tablename__ = "webhook"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("wh"))
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(JSON)
    secret: Mapped[str]  # As it is, since every delivery is signed with it.
    enabled: Mapped[bool] = mapped_column(default=True)
    failures: Mapped[int] = mapped_column(default=0)  # Since the last success.
    not_before: Mapped[float] = mapped_column(default=0.0)  # Nothing is sent earlier.
    last_seq: Mapped[int] = mapped_column(default=0)  # Number of the newest delivery.
    created_at: Mapped[float] = mapped_column(default=db_now())


class WebhookDelivery(Owned, Row):
    """An event that a webhook is told; recorded with the event, sent until it is received."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (Index("webhook_delivery_state", "state", "webhook_id", "seq"),)

    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhook.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    message: Mapped[str] = mapped_column(default=lambda: new_id("msg"))
    event: Mapped[str]
    payload: Mapped[Object]
    state: Mapped[str] = mapped_column(default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    status: Mapped[int | None]  # Of the receiver's last answer.
    error: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=db_now())
    delivered_at: Mapped[float | None]


class IdempotencyKey(Row):
    """The answer to a creating POST, kept 24 h so that a retry gets it again."""

    __tablename__ = "idempotency_key"

    key: Mapped[str] = mapped_column(primary_key=True)  # OWNER/KEY
    request_hash: Mapped[str]
    status: Mapped[int | None]
    body: Mapped[Object | None]
    headers: Mapped[Object | None]
    created_at: Mapped[float] = mapped_column(default=db_now())


class AuditEntry(Row):
    """Something that was done, or refused; never changed. See `core.domain.audit`."""

    __tablename__ = "audit_entry"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[str]  # RFC 3339, since this text is sealed.
    owner: Mapped[str | None]
    key: Mapped[str | None]
    address: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]
    status: Mapped[int]
    request_id: Mapped[str]
    digest: Mapped[str]


class AuditHead(Row):
    """The newest entry of the audit log; one row, locked by whoever adds one."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int]
    digest: Mapped[str]


class ApiKey(Row):
    """Who may speak to the service, and what for; the key itself is kept nowhere."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("key"))
    owner: Mapped[str]  # Whose rows it sees and adds; it is itself seen by admins only.
    scopes: Mapped[list[str]] = mapped_column(JSON)
    name: Mapped[str | None]
    digest: Mapped[str]  # sha256 of the secret
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float | None]
    last_used_at: Mapped[float | None]  # To the minute.
    revoked_at: Mapped[float | None]


class Worker(Row):
    """A worker that can reach the database; it is away once it has not been seen for a while."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(primary_key=True)  # What `Job.worker` names.
    slots: Mapped[int]  # Jobs at once.
    started_at: Mapped[float] = mapped_column(default=db_now())
    seen_at: Mapped[float] = mapped_column(default=db_now())


class Chore(Row):
    """Upkeep that one process at a time does, when it was last begun, and what it has done."""

    __tablename__ = "chore"

    name: Mapped[str] = mapped_column(primary_key=True)
    began_at: Mapped[float] = mapped_column(default=0.0)
    paused_until: Mapped[float] = mapped_column(default=0.0)  # Nothing is removed before.
    objects: Mapped[int] = mapped_column(BigInteger, default=0)  # Removed since the beginning.
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
