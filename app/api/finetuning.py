"""Fine-tuning requests: checked, then turned into the rows of a job or into a dry run's plan."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from sqlalchemy.orm import Session

from app.api.uploads.multipart_archive import Stored, Upload
from app.api.uploads.received import use_up
from app.asgi.problem import nearest
from app.asgi.request_body import decode, members, shaped_as
from core.domain import datasets, jobs, registry, usage
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
    UploadNotFound,
    WeightsUnavailable,
)
from topwork.kinds import DatasetState, JobKind, Priority

FROM_MODEL = "model:"
NOTHING_KNOWN: dict[str, Any] = {"classes": [], "counts": {}}


@dataclass(frozen=True)
class OfDataset:
    """Fine-tune on a dataset that is there."""

    request: types.FinetuneRequest
    fingerprint: str


@dataclass(frozen=True)
class OfUpload:
    """Fine-tune on what was sent; nothing is stored where another request has used it up."""

    request: types.FinetuneRequest
    fingerprint: str
    stored: Stored | None


@dataclass(frozen=True)
class DryRun:
    """Only say what would happen."""

    plan: types.Plan


Order = OfDataset | OfUpload | DryRun


def read_request(body: dict[str, Any], settings: Settings) -> types.FinetuneRequest:
    """Check a request as far as it can be without its data.

    Raises:
        Invalid: With one entry for each wrong field.
        ArchitectureUnknown: With the nearest names.
        InvalidField: Its values contradict each other.
        WeightsUnavailable: ImageNet weights that are neither here nor to be downloaded.
    """
    request = shaped_as(types.FinetuneRequest, body)
    architecture = catalogue.canonical(request.architecture)
    request = request.model_copy(update={"architecture": architecture})
    check_own_name(request.name)
    if request.dataset and request.upload:
        raise InvalidField("name a dataset or an upload, not both", param="upload")
    plan = plan_of(request, NOTHING_KNOWN)
    if plan.weights == "imagenet" and settings.offline:
        _check_weights(settings.weights_dir, architecture)
    return request


def check_own_name(name: str | None) -> None:
    """Raise InvalidField where a model would have the name of an architecture."""
    if name in catalogue.names():
        message = f"{name!r} is the name of an architecture"
        raise InvalidField(message, param="name", hint="Choose another name for the model.")


def _check_weights(folder: Path, architecture: str) -> None:
    if local_weights.find(folder, architecture) is None:
        raise WeightsUnavailable(
            f"The pretrained weights of {architecture} are not on this machine,"
            " and it must not download any.",
            param="weights",
            hint=local_weights.bring(architecture, folder),
        )


def read_field(name: str, text: str, settings: Settings) -> types.FinetuneRequest:
    """Read the field `config`, the only one of a form with files."""
    if name != "config":
        hint = nearest(name, ["config"]) or "Put every setting into the JSON field `config`."
        raise InvalidField(f"there is no form field {name!r} here", param=name, hint=hint)
    request = read_request(members(decode(text)), settings)
    named = next((name for name in ("dataset", "upload") if getattr(request, name)), None)
    if named is not None:
        raise InvalidField(f"send files or name a {named}, not both", param=named)
    return request


def read_form(fields: dict[str, Any]) -> types.FinetuneRequest:
    """Return what `read_field` has made of a form's `config`."""
    if "config" not in fields:
        raise InvalidField("the form has no field `config`", param="config")
    return cast("types.FinetuneRequest", fields["config"])


def plan_of(
    request: types.FinetuneRequest, summary: dict[str, Any], parent: ModelVersion | None = None
) -> Plan:
    """Return the plan for a dataset with this summary, or raise InvalidField.

    `parent` is the version that `weights: model:NAME` names.
    """
    architecture = catalogue.get(request.architecture)
    if parent is None:
        return resolve(request, architecture, summary)
    sees = parent.card["preprocess"]
    return resolve(request, architecture, summary, int(sees["crop"]), sees.get("fit", "crop"))


def place(session: Session, settings: Settings, order: OfDataset | OfUpload) -> Job:
    """Add the job, and for an upload its dataset and ingest job, in the caller's transaction.

    Raises:
        QueueFull: Too many jobs wait.
        QuotaExceeded: The owner may not store so much.
        DatasetNotFound, DatasetInvalid: There is no such dataset, or it has no version.
        ClassesLost: It lacks classes of its upload, and the request does not allow that.
        UploadNotFound: There is no such upload, or another request has used it.
        ModelNotFound: There is no such model to start from.
        NameTaken: The model's name belongs to another owner.
    """
    request = order.request
    usage.check_queue(session, settings, owner_of(session))
    parent = parent_of(session, request)
    if isinstance(order, OfUpload):
        split = {**request.split.model_dump(), "seed": request.seed}
        dataset = add_dataset(
            session,
            settings,
            order.stored,
            split=split,
            answers=request.answers(),
            priority=request.priority,
        )
        return _submit(session, request, dataset, parent)
    dataset, number = _named(session, request, lock=True)
    if dataset.state != DatasetState.READY:
        return _submit(session, request, dataset, parent, number)
    version = datasets.version(session, str(request.dataset))
    datasets.check_classes(version, request.train_config())
    plan = plan_of(request, version.summary, parent)
    return _submit(session, request, dataset, parent, version.number, plan)


def parent_of(session: Session, request: types.FinetuneRequest) -> ModelVersion | None:
    """Return the version that `weights: model:NAME` names; None for other weights.

    Raises:
        ModelNotFound: There is no such model.
    """
    if not request.weights.startswith(FROM_MODEL):
        return None
    return registry.resolve(session, request.weights.removeprefix(FROM_MODEL))


def named_summary(session: Session, request: types.FinetuneRequest) -> tuple[str, dict[str, Any]]:
    """Return the model's name and the dataset's summary for a request that names its dataset."""
    dataset, _ = _named(session, request)
    version = datasets.version(session, str(request.dataset))
    name = request.name or registry.default_name(session, model_name(dataset.name), dataset.id)
    return name, version.summary


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
    if answers := request.answers():
        message = "the paths of a dataset's images were read when it was sent"
        raise InvalidField(message, param=next(iter(answers)))
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
    parent: ModelVersion | None,
    version: int | None = None,
    plan: Plan | None = None,
) -> Job:
    name = request.name or registry.default_name(session, model_name(dataset.name), dataset.id)
    registry.check_name(session, name)
    config = {"name": name, **request.train_config()}
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
        plan=plan.to_json() if plan else None,
        waits=dataset.state != DatasetState.READY,
    )


def add_dataset(
    session: Session,
    settings: Settings,
    stored: Stored | None,
    *,
    split: dict[str, Any],
    answers: dict[str, Any] | None = None,
    name: str | None = None,
    priority: str = Priority.NORMAL,
    metadata: dict[str, Any] | None = None,
) -> Dataset:
    """Add a dataset and the job that fills it from what was sent.

    What came in pieces is used up by the caller's transaction.

    Raises:
        UploadNotFound: There is no such upload, or another request has used it.
        QuotaExceeded: The owner may not store so much.
    """
    if stored is None:
        raise UploadNotFound(param="upload")
    used = use_up(session, settings, stored)
    name = name or dataset_name(stored.upload)
    dataset = datasets.create(
        session, name=name, upload=used.pop("upload"), metadata=metadata or {}
    )
    config = {"split": split, **used}
    ingest = jobs.submit(
        session,
        kind=JobKind.INGEST,
        config=config | ({"answers": answers} if answers else {}),
        dataset_id=dataset.id,
        priority=priority,
    )
    dataset.job_id = ingest.id
    return dataset


def dataset_name(upload: Upload) -> str:
    """Return a name for what was uploaded: the archive's without suffixes, or the root folder's."""
    name = upload.filename or (next(iter(upload.roots)) if len(upload.roots) == 1 else "")
    stem = PurePosixPath(name.replace("\\", "/")).name
    stem = re.sub(r"(\.(zip|tar|t?gz|t?bz2?|t?xz|t?zst))+$", "", stem, flags=re.IGNORECASE)
    shown = "".join(c for c in unicodedata.normalize("NFC", stem) if c.isprintable())
    return shown.strip()[:100] or "images"


def model_name(dataset: str) -> str:
    """Return a model name made from a dataset's name."""
    plain = unicodedata.normalize("NFKD", dataset).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-._")[:50] or "model"
    return f"{name}-classifier" if name in catalogue.names() else name
