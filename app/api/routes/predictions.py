"""`/predictions`: many images in one job, and what it has answered."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from app.api import batch_prediction
from app.api.deps import Config, Read, Store, Text, Write
from app.api.idempotency import Created, Once
from app.api.openapi import json_or_files, text_answer
from app.api.uploads.received import Sent, sent
from app.api.views.jobs import job_view
from app.asgi.request_body import StrictRoute, shaped_as
from core.domain import predictions
from core.store import verified
from core.store.tables import Job
from topwork import types
from topwork.errors import NotFound

router = APIRouter(prefix="/predictions", tags=["Predict"], route_class=StrictRoute)
As = Annotated[
    Literal["ndjson", "csv"],
    Query(alias="as", description="`ndjson`: an object a line; `csv`: a table."),
]
MEDIA = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
LINES = {
    "application/x-ndjson": '{"index": 0, "path": "a.jpg", "status": "ok", "label": "cat"}\n',
    "text/csv": "index,path,status,label\n0,a.jpg,ok,cat\n",
}
Images = Sent[types.BatchRequest]


async def _images(
    request: Request, storage: Store, settings: Config, read: Read
) -> AsyncIterator[Images]:
    async with sent(
        request, storage, settings, read,
        from_json=partial(shaped_as, types.BatchRequest),
        from_form=lambda form: types.BatchRequest(**dict(shaped_as(types.BatchFields, form))),
        decoded=("metadata", "top_k"),
    ) as came:  # fmt: skip
        yield came


async def _this_batch(job_id: Text, read: Read) -> Job:
    return await read(predictions.get, job_id)


ThisBatch = Annotated[Job, Depends(_this_batch)]


@router.post(
    "",
    status_code=202,
    response_model=types.Job,
    openapi_extra=json_or_files(types.BatchRequest, types.BatchFields),
)
def create_predictions(
    once: Once,
    images: Annotated[Images, Depends(_images, scope="function")],
    session: Write,
    settings: Config,
) -> JSONResponse:
    """Classify every image of an archive, an upload or a dataset version; the answer is the job."""

    def create() -> Created:
        job = batch_prediction.place(session, settings, images.fields, images.stored)
        return Created(job_view(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, images.fingerprint, create)


@router.get("/{job_id}/results", response_class=StreamingResponse, responses=text_answer(LINES))
def get_prediction_results(
    job: ThisBatch, storage: Store, settings: Config, form: As = "ndjson"
) -> StreamingResponse:
    """Return a line for each image; of a job that was cancelled, failed or paused, those so far."""
    place = batch_prediction.stored_answers(job)
    pieces = verified.stream(storage, *place, settings.data_dir)
    body = batch_prediction.table(pieces, job.config["top_k"]) if form == "csv" else pieces
    headers = {"Content-Disposition": f'attachment; filename="{job.id}.{form}"'}
    return StreamingResponse(body, media_type=MEDIA[form], headers=headers)


@router.get("/{job_id}/evaluation", response_model=types.Evaluation)
def get_prediction_evaluation(job: ThisBatch, storage: Store) -> JSONResponse:
    """Return the scores of the images whose class is known, by split; `all` without splits."""
    place = predictions.location(job, predictions.EVALUATION)
    if place is None:
        raise NotFound(f"{job.id} has no evaluation", param="job_id")
    text = verified.content(storage, *place)
    return JSONResponse({"object": "evaluation", "splits": json.loads(text)})
