"""`/models/{name}/versions/{number}/exports`: a version as a file for other programs."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, StreamingResponse

from app.api import downloads
from app.api.deps import Config, Number, Read, Store, Text, ThisModelVersion, Write
from app.api.idempotency import Created, Once
from app.api.openapi import BYTES, bytes_answer
from app.api.views.jobs import job_view
from app.api.views.models import export_view
from app.asgi.etag import TaggedRoute
from app.asgi.request_body import StrictRoute
from core.domain import exports, registry
from core.store.tables import ModelExport
from models.planning.export_request import check
from topwork import types

BELOW = "/models/{name}/versions/{number}/exports"
orders = APIRouter(prefix=BELOW, tags=["Models"], route_class=StrictRoute)
router = APIRouter(prefix=BELOW, tags=["Models"], route_class=TaggedRoute)


async def _this_export(form: Text, version: ThisModelVersion, read: Read) -> ModelExport:
    return await read(exports.get, version, form)


ThisExport = Annotated[ModelExport, Depends(_this_export)]


@orders.post("", status_code=202, response_model=types.Job)
def export_model_version(
    name: Text,
    number: Number,
    body: types.ExportOrder,
    once: Once,
    session: Write,
    settings: Config,
) -> JSONResponse:
    """Write a version as a file; asked for again, the answer is the job that does it or did it."""

    def create() -> Created:
        version = registry.version(session, name, number)
        check(body.format, version.card)
        job = exports.order(session, settings, version, body.format)
        return Created(job_view(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, f"{name}@{number} {body.model_dump_json()}", create)


@router.get("")
async def list_exports(version: ThisModelVersion, read: Read) -> types.Page[types.Export]:
    """List the formats in which a version can be downloaded."""
    rows = [export_view(version, row) for row in await read(exports.of, version)]
    return types.Page[types.Export].of(rows, has_more=False, key="format")


@router.get("/{form}")
def get_export(version: ThisModelVersion, export: ThisExport) -> types.Export:
    """Return one export with the report on how its answers compare with the service's."""
    return export_view(version, export)


@router.get("/{form}/files/{file}", response_class=StreamingResponse, responses=bytes_answer(BYTES))
def get_export_file(
    file: Text, export: ThisExport, storage: Store, settings: Config
) -> StreamingResponse:
    """Download a file of an export: `model.onnx`, `model.pt2`, `model.zip`, `parity.json`."""
    return downloads.attachment(export, file, storage, settings)
