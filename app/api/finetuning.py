"""Fine-tuning requests: checked, then turned into the rows of a job or into a dry run's plan."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.api.uploads.multipart_archive import Stored, Upload
from app.asgi.exception_handlers import Invalid
from app.asgi.problem import nearest
from app.asgi.request_body import decode
from core.domain import datasets, jobs, registry, uploads, usage
from core.store.row_access import owner_of
from core.store.tables import Dataset, Job, ModelVersion
from core.system.settings import Settings
from models.planning import catalogue
from models.planning.plan import Plan, resolve
from models.weights import local_weights
from topwork import types
from topwork.errors import (
    DatasetInvalid,
    InvalidField,
    MalformedRequest,
    UploadNotFound,
    WeightsUnavailable,
)
from topwork.kinds import DatasetState, JobKind, Priority
from topwork.types.training import TrainConfig

FROM_MODEL = "model:"
NOTHING_KNOWN: dict[str, Any] = {"classes": [], "counts": {}}


@dataclass(frozen=True)
class Order:
    """A request that was read and checked as far as it can be without its data."""

    request: types.FinetuneRequest
    fingerprint: str = ""
    upload: Upload | None = None
    stored: Stored | None = None
    preview: types.Plan | None = None


@dataclass(frozen=True)
class DatasetOrder:
    """An upload that is to become a dataset."""

    fields: types.DatasetForm
    fingerprint: str
    stored: Stored | None
    upload: Upload | None = None


def read_request(raw: object) -> types.FinetuneRequest:
    """Hold a decoded body against the schema and the catalogue.

    Raises:
        Invalid: With one entry for each wrong field.
        ArchitectureUnknown: With the nearest names.
    """
    if not isinstance(raw, dict):
        raise MalformedRequest("the body is not a JSON object")
    try:
        request = types.FinetuneRequest.model_validate(raw)
    except ValidationError as error:
        raise Invalid(list(error.errors()), types.FinetuneRequest) from None
    if request.name in catalogue.names():
        message = f"{request.name!r} is the name of an architecture"
        raise InvalidField(message, param="name", hint="Choose another name for the model.")
    if request.dataset and request.upload:
        raise InvalidField("name a dataset or an upload, not both", param="upload")
    resolve_plan(request, NOTHING_KNOWN)
    return request


def read_form(fields: dict[str, str]) -> types.FinetuneRequest:
    """Read the `config` field of a form with files."""
    for name in fields:
        if name != "config":
            hint = nearest(name, ["config"]) or "Put every setting into the JSON field `config`."
            raise InvalidField(f"there is no form field {name!r} here", param=name, hint=hint)
    if "config" not in fields:
        raise InvalidField("the form has no field `config`", param="config")
    request = read_request(decode(fields["config"]))
    named = next((name for name in ("dataset", "upload") if getattr(request, name)), None)
    if named is not None:
        raise InvalidField(f"send files or name a {named}, not both", param=named)
    return request


def read_dataset_fields(fields: dict[str, str]) -> types.DatasetForm:
    """Read the fields beside the files of `POST /datasets`; two of them are JSON."""
    raw = {
        name: decode(value) if name in ("metadata", "split") else value
        for name, value in fields.items()
    }
    try:
        return types.DatasetForm.model_validate(raw)
    except ValidationError as error:
        raise Invalid(list(error.errors()), types.DatasetForm) from None


def read_dataset_request(raw: object) -> types.DatasetRequest:
    """Read the JSON body of `POST /datasets`."""
    if not isinstance(raw, dict):
        raise MalformedRequest("the body is not a JSON object")
    try:
        return types.DatasetRequest.model_validate(raw)
    except ValidationError as error:
        raise Invalid(list(error.errors()), types.DatasetRequest) from None


def check_weights(request: types.FinetuneRequest, settings: Settings) -> None:
    """Refuse at once what this machine cannot start from.

    Raises:
        WeightsUnavailable: ImageNet weights that are neither here nor to be downloaded.
    """
    plan = resolve_plan(request, NOTHING_KNOWN)
    if plan.weights != "imagenet" or not settings.offline:
        return
    if local_weights.find(settings.weights_dir, request.architecture) is None:
        raise WeightsUnavailable(
            f"The pretrained weights of {request.architecture} are not on this machine,"
            " and it must not download any.",
            param="weights",
            hint=local_weights.bring(request.architecture, settings.weights_dir),
        )


def resolve_plan(
    request: types.FinetuneRequest, summary: dict[str, Any], parent_size: int | None = None
) -> Plan:
    """Return the plan for a dataset with this summary, or raise InvalidField."""
    config = TrainConfig.model_validate(request.train_config())
    return resolve(config, catalogue.get(request.architecture), summary, parent_size)


def place(session: Session, settings: Settings, order: Order) -> Job:
    """Add the job, and for an upload its dataset and ingest job, in the caller's transaction.

    Raises:
        QueueFull: Too many jobs wait.
        QuotaExceeded: The owner may not store so much.
        DatasetNotFound, DatasetInvalid: There is no such dataset, or it has no version.
        ModelNotFound: There is no such model to start from.
        NameTaken: The model's name belongs to another owner.
    """
    request = order.request
    usage.check_queue(session, settings, owner_of(session))
    size = parent_size(session, request)
    if request.upload or order.upload is not None:
        stored, upload = use_upload(session, order.stored, order.upload)
        name = dataset_name(upload)
        split = {**request.split.model_dump(), "seed": request.seed}
        usage.check_bytes(session, settings, owner_of(session), stored.size)
        dataset = add_dataset(
            session, name=name, stored=stored, split=split, priority=request.priority
        )
        return _submit(session, order.request, dataset, version=None, plan=None)
    dataset, version = _named(session, request, lock=True)
    plan = None
    if dataset.state == DatasetState.READY:
        found = datasets.version(session, f"{dataset.id}@{version}" if version else dataset.id)
        version = found.number
        plan = resolve_plan(request, found.summary, size).to_json()
    return _submit(session, request, dataset, version=version, plan=plan)


def use_upload(
    session: Session, stored: Stored | None, upload: Upload | None
) -> tuple[Stored, Upload]:
    """Return what was sent; what came in pieces is used up by the caller's transaction.

    Raises:
        UploadNotFound: There is no such upload, or another request has used it.
    """
    if stored is None or upload is None:
        raise UploadNotFound(param="upload")
    if upload.partial is not None:
        uploads.delete(session, upload.partial)
    return stored, upload


def parent_size(session: Session, request: types.FinetuneRequest) -> int | None:
    """Return the input side of the model that `weights: model:NAME` names; None for other weights.

    Raises:
        ModelNotFound: There is no such model.
    """
    parent = _parent(session, request)
    return int(parent.card["preprocess"]["crop"]) if parent else None


def _parent(session: Session, request: types.FinetuneRequest) -> ModelVersion | None:
    weights = request.train_config().get("weights") or ""
    if not weights.startswith(FROM_MODEL):
        return None
    return registry.resolve(session, weights.removeprefix(FROM_MODEL))


def named_summary(session: Session, request: types.FinetuneRequest) -> tuple[str, dict[str, Any]]:
    """Return the model's name and the dataset's summary for a request that names its dataset."""
    dataset, _ = _named(session, request)
    version = datasets.version(session, str(request.dataset))
    return request.name or model_name(dataset.name), version.summary


def _named(
    session: Session, request: types.FinetuneRequest, *, lock: bool = False
) -> tuple[Dataset, int | None]:
    if request.dataset is None:
        hint = "Name a dataset, or send multipart/form-data with `file` and `config`."
        raise InvalidField("no dataset is named", param="dataset", hint=hint)
    if "split" in request.model_fields_set:
        message = "the images of a dataset version already belong to their splits"
        hint = "Make a version with another split: POST /datasets/{id}/versions."
        raise InvalidField(message, param="split", hint=hint)
    identity, _, number = request.dataset.partition("@")
    dataset = datasets.get(session, identity, lock=lock)
    if dataset.state == DatasetState.FAILED:
        why = (dataset.error or {}).get("message", "its ingestion failed")
        raise DatasetInvalid(f"the dataset cannot be used: {why}", param="dataset")
    return dataset, int(number) if number else None


def _submit(
    session: Session,
    request: types.FinetuneRequest,
    dataset: Dataset,
    *,
    version: int | None,
    plan: dict[str, Any] | None,
) -> Job:
    name = request.name or model_name(dataset.name)
    registry.check_name(session, name)
    config = {"name": name, **request.train_config()}
    parent = _parent(session, request)
    if parent is not None:
        # A name may mean another version, or another owner's model, when the job begins.
        config["weights"] = f"{FROM_MODEL}{parent.name}@{parent.number}"
    return jobs.submit(
        session,
        kind=JobKind.FINETUNE,
        config=config,
        dataset_id=dataset.id,
        dataset_version=version,
        priority=request.priority,
        metadata=request.metadata,
        plan=plan,
        waits=dataset.state != DatasetState.READY,
    )


def place_dataset(session: Session, settings: Settings, order: DatasetOrder) -> Job:
    """Add a dataset and return the job that fills it; raises QueueFull when too many wait."""
    usage.check_queue(session, settings, owner_of(session))
    fields = order.fields
    stored, upload = use_upload(session, order.stored, order.upload)
    usage.check_bytes(session, settings, owner_of(session), stored.size)
    dataset = add_dataset(
        session,
        name=fields.name or dataset_name(upload),
        stored=stored,
        split=fields.split.model_dump(),
        metadata=fields.metadata,
    )
    return jobs.get(session, str(dataset.job_id))


def add_dataset(
    session: Session,
    *,
    name: str,
    stored: Stored,
    split: dict[str, Any],
    priority: str = Priority.NORMAL,
    metadata: dict[str, Any] | None = None,
) -> Dataset:
    """Add a dataset and the job that fills it from a stored upload."""
    dataset = datasets.create(session, name=name, upload=stored.key, metadata=metadata or {})
    ingest = jobs.submit(
        session,
        kind=JobKind.INGEST,
        config={"split": split, "bytes": stored.size},
        dataset_id=dataset.id,
        priority=priority,
    )
    dataset.job_id = ingest.id
    stored.kept = True
    return dataset


def dataset_name(upload: Upload) -> str:
    """Return a name for what was uploaded: the archive's without suffixes, or the root folder's."""
    name = upload.filename or (next(iter(upload.roots)) if len(upload.roots) == 1 else "")
    stem = PurePosixPath(name.replace("\\", "/")).name
    stem = re.sub(r"(\.(zip|tar|tgz|gz))+$", "", stem, flags=re.IGNORECASE)
    shown = "".join(c for c in unicodedata.normalize("NFC", stem) if c.isprintable())
    return shown.strip()[:100] or "images"


def model_name(dataset: str) -> str:
    """Return a model name made from a dataset's name."""
    plain = unicodedata.normalize("NFKD", dataset).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-._")[:50] or "model"
    return f"{name}-classifier" if name in catalogue.names() else name
