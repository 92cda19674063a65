"""Datasets, their versions and their images as clients see them."""

from sqlalchemy.orm import Session

from app.api.views.rows import shaped
from core.domain import datasets
from core.ingest.manifest import Line
from core.store import tables
from topwork import types


def dataset_view(session: Session, row: tables.Dataset) -> types.Dataset:
    """Return a dataset with its newest version."""
    path = f"/datasets/{row.id}"
    newest = datasets.newest(session, row.id)
    links = {"self": path, "versions": f"{path}/versions"}
    return shaped(
        types.Dataset,
        row,
        job=row.job_id,
        metadata=row.user_metadata,
        latest=version_view(newest) if newest else None,
        links=links | ({"job": f"/jobs/{row.job_id}"} if row.job_id else {}),
    )


def version_view(row: tables.DatasetVersion) -> types.DatasetVersion:
    """Return a version with what its `dataset.json` says."""
    path = f"/datasets/{row.dataset_id}/versions/{row.number}"
    links = {name: f"{path}/{name}" for name in ("report", "images")}
    facts = {"skipped": {}, "rejected": {}, "findings": [], "reading": "", **row.summary}
    place = {"dataset": row.dataset_id, "links": {"self": path, **links}}
    return shaped(types.DatasetVersion, row, **facts | {"digest": row.digest} | place)


def image_view(
    version: tables.DatasetVersion, line: Line, suspect: types.Suspect | None = None
) -> types.Image:
    """Return a manifest's line, and why it is listed as a suspect."""
    path = f"/datasets/{version.dataset_id}/versions/{version.number}/images/{line['sha256']}"
    links = {"content": f"{path}/content", "thumbnail": f"{path}/thumbnail"}
    return types.Image.model_validate(
        {**line, "bytes": line["length"], "suspect": suspect, "links": links}
    )
