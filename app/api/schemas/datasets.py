"""Datasets, their versions and their images as clients see them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, FailFast, Field
from sqlalchemy.orm import Session

from app.api.schemas.jobs import ErrorOut
from app.api.schemas.orders import SplitRequest
from app.api.schemas.values import Answer, Body, DatasetName, Metadata, Moment, fewer
from core.domain import datasets
from core.ingest.manifest import Line
from core.store.tables import Dataset, DatasetVersion

SHA256 = r"^[0-9a-f]{64}$"
MOST_NAMED = 200_000


class VersionOut(Answer):
    """One immutable version: which images, under which class, in which split."""

    object: Literal["dataset_version"] = "dataset_version"
    dataset: str
    number: int
    digest: str
    """SHA-256 of the manifest."""
    classes: list[str]
    """Frozen with the version; everything joins by these names."""
    counts: dict[str, dict[str, int]]
    """Images per split and class."""
    images: int
    bytes: int
    reading: str = Field(examples=["I see 2 classes (cat, dog) and 2 splits (train 8, val 2)."])
    findings: list[dict[str, Any]]
    skipped: dict[str, int]
    rejected: dict[str, int]
    created_at: Moment
    links: dict[str, str]


class DatasetOut(Answer):
    """A named set of labelled images."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    state: Literal["ingesting", "ready", "failed"]
    job: str | None
    """The job that reads, or has read, the upload."""
    error: ErrorOut | None
    metadata: dict[str, Any]
    owner: str
    """Whose key sent it."""
    created_at: Moment
    latest: VersionOut | None
    """The newest version."""
    links: dict[str, str]


class ImageOut(Answer):
    """One image of a version."""

    sha256: str
    path: str
    """As uploaded."""
    class_name: str = Field(alias="class", serialization_alias="class")
    split: Literal["train", "val", "test"]
    width: int
    height: int
    bytes: int
    findings: list[str]
    links: dict[str, str]


class ReportLine(Answer):
    """A file that is not used, or something a user should know about one that is."""

    id: int
    path: str
    status: Literal["skipped", "rejected", "finding"]
    code: str
    message: str


class DatasetPatch(Body):
    """What can be changed about a dataset."""

    name: DatasetName | None = None
    metadata: Metadata | None = None


def _first_wrong(value: Any) -> Any:
    """Leave of an object with members that are no text the first such, which alone is explained."""
    if not isinstance(value, dict):
        return value
    wrong = ({name: one} for name, one in value.items() if not isinstance(one, str))
    return next(wrong, value)


class RevisionRequest(Body):
    """A new version: the images of another one with some left out, relabelled or split anew."""

    base: int | None = Field(None, ge=1, le=2**31 - 1)
    """Version to start from; the newest where absent."""
    exclude: Annotated[list[str], FailFast()] = Field([], max_length=MOST_NAMED)
    """SHA-256 of images to leave out."""
    relabel: Annotated[dict[str, str], BeforeValidator(_first_wrong), fewer(MOST_NAMED)] = Field(
        {}, max_length=MOST_NAMED
    )
    """SHA-256 of an image to the class it belongs to."""
    split: SplitRequest | None = None
    """Split anew; without it every image stays in its split."""


def version_out(row: DatasetVersion) -> VersionOut:
    """Return a version as clients see it."""
    own = f"/datasets/{row.dataset_id}/versions/{row.number}"
    links = {name: f"{own}/{name}" for name in ("report", "images")}
    facts = {"skipped": {}, "rejected": {}, "findings": [], "reading": "", **row.summary}
    return VersionOut.model_validate(
        {
            **facts,
            "dataset": row.dataset_id,
            "number": row.number,
            "digest": row.digest,
            "created_at": row.created_at,
            "links": {"self": own, **links},
        }
    )


def dataset_out(session: Session, row: Dataset) -> DatasetOut:
    """Return a dataset as clients see it."""
    own = f"/datasets/{row.id}"
    found = datasets.versions(session, row.id)
    links = {"self": own, "versions": f"{own}/versions"}
    return DatasetOut.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "state": row.state,
            "job": row.job_id,
            "error": row.error,
            "metadata": row.user_metadata,
            "owner": row.owner,
            "created_at": row.created_at,
            "latest": version_out(found[0]) if found else None,
            "links": links | ({"job": f"/jobs/{row.job_id}"} if row.job_id else {}),
        }
    )


def image_out(version: DatasetVersion, line: Line) -> ImageOut:
    """Return a manifest line as clients see it."""
    own = f"/datasets/{version.dataset_id}/versions/{version.number}/images/{line['sha256']}"
    links = {"content": f"{own}/content", "thumbnail": f"{own}/thumbnail"}
    return ImageOut.model_validate({**line, "bytes": line["length"], "links": links})
