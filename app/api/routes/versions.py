"""`/models/{name}/versions`: published classifiers, what they were measured at, their files."""

import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.api.deps import Read, Store, Text, ThisModel, ThisModelVersion
from app.api.schemas.lists import Page
from app.api.schemas.models import ModelVersionOut, model_version_out
from app.asgi.etag import TaggedRoute
from core.domain import registry
from core.store.object_store import Storage
from core.store.tables import ModelVersion
from topwork.errors import NotFound

router = APIRouter(prefix="/models/{name}/versions", tags=["Models"], route_class=TaggedRoute)
NDJSON = "application/x-ndjson"


@router.get("")
def list_model_versions(model: ThisModel, session: Read) -> Page[ModelVersionOut]:
    """List the versions of a model, the newest first."""
    rows = [model_version_out(row) for row in registry.versions(session, model.name)]
    return Page[ModelVersionOut].of(rows, has_more=False, key="number")


@router.get("/{number}")
def get_model_version(version: ThisModelVersion) -> ModelVersionOut:
    """Return a version with its card."""
    return model_version_out(version)


@router.get("/{number}/evaluation")
def get_evaluation(version: ThisModelVersion, storage: Store) -> dict[str, Any]:
    """Return what the version was measured at: per split, per class, with confusion matrix."""
    return {"object": "evaluation", "splits": _evaluation(version, storage)}


@router.get("/{number}/confusion")
def get_confusion(version: ThisModelVersion, storage: Store) -> dict[str, Any]:
    """Return the confusion matrix of each split: rows are true classes, columns predictions."""
    splits = _evaluation(version, storage)
    return {
        "object": "confusion",
        "splits": {name: split["confusion"] for name, split in splits.items()},
    }


@router.get("/{number}/calibration")
def get_calibration(version: ThisModelVersion, storage: Store) -> dict[str, Any]:
    """Return the temperature and how far confidence is from accuracy; null where unmeasured."""
    splits = _evaluation(version, storage)
    return {
        "object": "calibration",
        "calibration": version.card.get("calibration"),
        "splits": {name: split.get("calibration") for name, split in splits.items()},
    }


@router.get("/{number}/errors")
def get_errors(version: ThisModelVersion, storage: Store) -> dict[str, Any]:
    """Return the wrong answers with the greatest loss, 50 a split; null where unmeasured."""
    splits = _evaluation(version, storage)
    return {
        "object": "errors",
        "splits": {name: split.get("errors") for name, split in splits.items()},
    }


@router.get("/{number}/predictions", response_class=StreamingResponse)
def get_predictions(version: ThisModelVersion, storage: Store) -> StreamingResponse:
    """Return, as NDJSON, what the evaluation said about each image."""
    key = _key(version, "predictions.jsonl")
    return StreamingResponse(storage.stream(key), media_type=NDJSON)


@router.get("/{number}/files/{file}", response_class=StreamingResponse)
def get_model_file(file: Text, version: ThisModelVersion, storage: Store) -> StreamingResponse:
    """Download a file of the artefact: `weights.safetensors`, `card.json`, ..."""
    key = _key(version, file)
    headers = {
        "Content-Disposition": f'attachment; filename="{file}"',
        "Content-Length": str(version.files[file]["size"]),
        "ETag": f'"{version.files[file]["sha256"]}"',
    }
    return StreamingResponse(storage.stream(key), media_type="application/octet-stream",
                             headers=headers)  # fmt: skip


def _evaluation(version: ModelVersion, storage: Storage) -> dict[str, Any]:
    return dict(json.loads(storage.get_bytes(_key(version, "evaluation.json"))))


def _key(version: ModelVersion, file: str) -> str:
    if file not in version.files:
        raise NotFound(f"{version.name}@{version.number} has no file {file!r}", param="file")
    return f"{version.prefix}/{file}"
