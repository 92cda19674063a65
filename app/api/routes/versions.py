"""`/models/{name}/versions`: published classifiers, what they were measured at, their files."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Path, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from app.api import batch_prediction, downloads, explaining
from app.api.deps import (
    Config,
    Number,
    Read,
    ServiceHere,
    Store,
    Text,
    ThisModelVersion,
    Who,
    Write,
)
from app.api.explaining import ExplainClass
from app.api.idempotency import Created, Once
from app.api.openapi import BYTES, bytes_answer, text_answer
from app.api.views.jobs import job_view
from app.api.views.models import version_view
from app.asgi.etag import TaggedRoute
from core.domain import registry
from core.ops import garbage
from core.store import verified
from core.store.object_store import Storage
from core.store.tables import ModelVersion
from topwork import types
from topwork.kinds import ExplainMode
from topwork.types.datasets import SHA256
from topwork.types.predictions import EXPLAIN_OVERLAY

router = APIRouter(prefix="/models/{name}/versions", tags=["Models"], route_class=TaggedRoute)
NDJSON = "application/x-ndjson"
EVALUATION = "evaluation.json"
Sha256 = Annotated[str, Path(pattern=SHA256)]
ExplainOverlay = Annotated[bool, Query(description=EXPLAIN_OVERLAY)]
LINE = (
    '{"sha256": "9f86...", "path": "cat/1.jpg", "split": "val", "class": "cat", "label": "cat"}\n'
)


@router.get("")
async def list_model_versions(name: Text, read: Read) -> types.Page[types.ModelVersion]:
    """List the versions of a model, the newest first."""
    await read(registry.get, name)
    rows = [version_view(row) for row in await read(registry.versions, name)]
    return types.Page[types.ModelVersion].of(rows, has_more=False, key="number")


@router.get("/{number}")
def get_model_version(version: ThisModelVersion) -> types.ModelVersion:
    """Return a version with its card."""
    return version_view(version)


@router.delete("/{number}", status_code=204)
def delete_model_version(
    name: Text, number: Number, session: Write, service: ServiceHere, later: BackgroundTasks
) -> None:
    """Forget a version to which no alias points, with its files; its number is not given again."""
    prefixes = registry.delete_version(session, name, number)
    later.add_task(garbage.discard, service.resources, prefixes=prefixes)


@router.get("/{number}/evaluation", response_model=types.Evaluation)
def get_evaluation(version: ThisModelVersion, storage: Store) -> JSONResponse:
    """Return what the version was measured at: per split, per class, with confusion matrix."""
    return JSONResponse({"object": "evaluation", "splits": _evaluation(version, storage)})


@router.post("/{number}/evaluations", status_code=202, response_model=types.Job)
def evaluate_model_version(
    asked: types.EvaluationRequest,
    version: ThisModelVersion,
    once: Once,
    session: Write,
    settings: Config,
) -> JSONResponse:
    """Measure the version on a dataset version; the job's `evaluation` has the scores."""
    model = f"{version.name}@{version.number}"
    order = types.BatchRequest(model=model, **dict(asked))

    def create() -> Created:
        job = batch_prediction.place(session, settings, order, None)
        return Created(job_view(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, asked.model_dump_json(), create)


@router.get("/{number}/confusion", response_model=types.Confusion)
def get_confusion(version: ThisModelVersion, storage: Store) -> JSONResponse:
    """Return the confusion matrix of each split: rows are true classes, columns predictions."""
    return _part("confusion", version, storage)


@router.get("/{number}/calibration", response_model=types.Calibration)
def get_calibration(version: ThisModelVersion, storage: Store) -> JSONResponse:
    """Return the temperature and how far confidence is from accuracy; null where unmeasured."""
    fitted = version.card.get("calibration")
    return _part("calibration", version, storage, calibration=fitted)


@router.get("/{number}/errors", response_model=types.Errors)
def get_errors(version: ThisModelVersion, storage: Store) -> JSONResponse:
    """Return the wrong answers with the greatest loss, 50 a split; null where unmeasured."""
    return _part("errors", version, storage)


@router.get(
    "/{number}/predictions",
    response_class=StreamingResponse,
    responses=text_answer({NDJSON: LINE}),
)
def get_predictions(
    version: ThisModelVersion, storage: Store, settings: Config
) -> StreamingResponse:
    """Return, as NDJSON, what the evaluation said about each image."""
    place = downloads.location(version, "predictions.jsonl")
    pieces = verified.stream(storage, *place, settings.data_dir)
    return StreamingResponse(pieces, media_type=NDJSON)


@router.get("/{number}/predictions/{sha256}/heatmap", response_model=types.Heatmap)
async def get_heatmap(
    request: Request,
    version: ThisModelVersion,
    sha256: Sha256,
    service: ServiceHere,
    read: Read,
    who: Who,
    explain_class: ExplainClass = None,
    explain_overlay: ExplainOverlay = False,  # noqa: FBT002 - a parameter of the address.
) -> JSONResponse:
    """Return what each part of an evaluated image has added to a class."""
    fields = types.PredictFields(
        explain=ExplainMode.HEATMAP,
        explain_class=explain_class,
        explain_overlay=explain_overlay,
    )
    model = f"{version.name}@{version.number}"
    found = await explaining.of_evaluated(request, service, read, who, model, sha256, fields)
    return JSONResponse(found)


@router.get(
    "/{number}/files/{file}", response_class=StreamingResponse, responses=bytes_answer(BYTES)
)
def get_model_file(
    file: Text, version: ThisModelVersion, storage: Store, settings: Config
) -> StreamingResponse:
    """Download a file of the artefact: `weights.safetensors`, `card.json`, ..."""
    return downloads.attachment(version, file, storage, settings)


def _part(name: str, version: ModelVersion, storage: Storage, **more: Any) -> JSONResponse:
    """Answer with one part of the stored evaluation, as the trainer has written it."""
    splits = _evaluation(version, storage)
    parts = {split: scores.get(name) for split, scores in splits.items()}
    return JSONResponse({"object": name, **more, "splits": parts})


def _evaluation(version: ModelVersion, storage: Storage) -> dict[str, Any]:
    if EVALUATION not in version.files:
        return {}  # A model from elsewhere: nobody here has measured it.
    found = verified.content(storage, *downloads.location(version, EVALUATION))
    return dict(json.loads(found))
