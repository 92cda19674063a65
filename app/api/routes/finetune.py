"""`POST /finetune`: from a folder of images, or a dataset, to a job."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from app.api import finetuning
from app.api.deps import Config, Read, ServiceHere, Write
from app.api.dry_run import preview
from app.api.finetuning import Order
from app.api.idempotency import Created, Once
from app.api.openapi import json_or_form
from app.api.uploads.multipart_archive import stored
from app.api.uploads.received import received
from app.api.views.jobs import job_view
from app.asgi.disconnect import unless_gone
from app.asgi.request_body import StrictRoute
from topwork import types

router = APIRouter(tags=["Fine-tune"], route_class=StrictRoute)
DryRun = Annotated[
    bool, Query(description="Answer with the plan, its reasons and an estimate; store nothing.")
]


async def _ordered(
    request: Request, service: ServiceHere, settings: Config, read: Read, *, dry_run: DryRun = False
) -> AsyncIterator[Order]:
    async with received(
        request, settings, read,
        from_json=partial(finetuning.read_request, settings=settings),
        from_form=finetuning.read_form,
        read_field=partial(finetuning.read_field, settings=settings),
    ) as sent:  # fmt: skip
        if dry_run:
            looking = preview(read, service.previews, sent)
            yield finetuning.DryRun(await unless_gone(request, looking))
        elif sent.upload is None and sent.fields.upload is None:
            yield finetuning.OfDataset(sent.fields, sent.fingerprint)
        else:
            async with stored(service.resources.storage, sent.upload) as handle:
                yield finetuning.OfUpload(sent.fields, sent.fingerprint, handle)


Ordered = Annotated[Order, Depends(_ordered, scope="function")]


@router.post(
    "/finetune",
    status_code=202,
    response_model=types.Job,
    responses={200: {"model": types.Plan, "description": "The plan of a dry run."}},
    openapi_extra=json_or_form(types.FinetuneRequest),
)
def finetune(once: Once, order: Ordered, session: Write, settings: Config) -> JSONResponse:
    """Fine-tune a pretrained network on labelled images.

    Name a dataset or an upload, or send the images with the request: one .zip, .tar or .tar.gz, or
    many files whose names are relative paths, with one folder for each class.
    """
    if isinstance(order, finetuning.DryRun):
        return JSONResponse(order.plan.model_dump(mode="json"))

    def create() -> Created:
        job = finetuning.place(session, settings, order)
        return Created(job_view(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, order.fingerprint, create)
