"""`POST /finetune`: from a folder of images, or a dataset, to a job."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from app.api import dry_run, finetuning
from app.api.deps import Config, ServiceHere, Who, Write
from app.api.finetuning import Order
from app.api.idempotency import Created, Once
from app.api.openapi import json_or_form
from app.api.schemas.jobs import JobOut, job_out
from app.api.schemas.orders import FinetuneRequest, PlanOut
from app.api.state import Service
from app.api.uploads.multipart_archive import stored, uploaded
from app.api.uploads.resumable import find, resumed
from app.asgi.disconnect import unless_gone
from app.asgi.multipart import FORM
from app.asgi.request_body import StrictRequest, StrictRoute, media_type, unsupported
from core.store.row_access import Caller
from topwork.errors import UploadNotFound

router = APIRouter(tags=["Fine-tune"], route_class=StrictRoute)
DryRun = Annotated[
    bool, Query(description="Answer with the plan, its reasons and an estimate; store nothing.")
]


async def _ordered(
    request: Request, service: ServiceHere, who: Who, *, dry_run: DryRun = False
) -> AsyncIterator[Order]:
    assert isinstance(request, StrictRequest)  # noqa: S101 - made so by the route class.
    settings = service.resources.settings
    if media_type(request) == "application/json":
        wanted = finetuning.read_request(await request.json())
        finetuning.check_weights(wanted, settings)
        order = Order(wanted, hashlib.sha256(await request.body()).hexdigest())
        async with _with_upload(request, service, who, order, dry_run=dry_run) as complete:
            yield complete
        return
    if media_type(request) != FORM:
        raise unsupported(request, "application/json", FORM)
    async with uploaded(request, settings, on_field=_check_field) as upload:
        wanted = finetuning.read_form(upload.fields)
        finetuning.check_weights(wanted, settings)
        if dry_run:
            yield await _previewed(request, service, who, Order(wanted, upload=upload))
            return
        async with stored(service.resources.storage, upload) as handle:
            yield Order(wanted, upload.fingerprint, upload, handle)


@asynccontextmanager
async def _with_upload(
    request: Request, service: Service, who: Caller, order: Order, *, dry_run: bool
) -> AsyncIterator[Order]:
    """Yield a JSON order together with the upload that it names, if it names one."""
    named = order.request.upload
    if dry_run:
        if named is not None:
            upload = await anyio.to_thread.run_sync(find, service.resources, who, named)
            if upload is None:
                raise UploadNotFound(param="upload")
            order = replace(order, upload=upload)
        yield await _previewed(request, service, who, order)
    elif named is None:
        yield order
    else:
        async with resumed(service.resources, who, named) as (upload, handle):
            yield replace(order, upload=upload, stored=handle)


async def _previewed(request: Request, service: Service, who: Caller, order: Order) -> Order:
    summary = None
    if order.upload is not None:
        looking = service.previews.summary(order.upload, order.request)
        summary = await unless_gone(request, looking)
    plan = await anyio.to_thread.run_sync(dry_run.preview, service.resources, who, order, summary)
    return replace(order, preview=plan)


def _check_field(name: str, value: str) -> None:
    """Refuse a wrong config before the files behind it have been sent."""
    finetuning.read_form({name: value})


Ordered = Annotated[Order, Depends(_ordered, scope="function")]


@router.post(
    "/finetune",
    status_code=202,
    response_model=JobOut,
    responses={200: {"model": PlanOut, "description": "The plan of a dry run."}},
    openapi_extra=json_or_form(FinetuneRequest),
)
def finetune(once: Once, order: Ordered, session: Write, settings: Config) -> JSONResponse:
    """Fine-tune a pretrained network on labelled images.

    Name a dataset or an upload, or send the images with the request: one .zip, .tar or .tar.gz, or
    many files whose names are relative paths, with one folder for each class.
    """
    if order.preview is not None:
        return JSONResponse(order.preview.model_dump(mode="json"))

    def create() -> Created:
        job = finetuning.place(session, settings, order)
        return Created(job_out(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, order.fingerprint, create)
