"""`/models/import`: models that were made elsewhere."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from app.api import importing
from app.api.deps import Config, Read, Store, Write
from app.api.idempotency import Created, Once
from app.api.openapi import json_or_files
from app.api.uploads.received import Sent, sent
from app.api.views.jobs import job_view
from app.asgi.request_body import StrictRoute, shaped_as
from topwork import types

router = APIRouter(prefix="/models", tags=["Models"], route_class=StrictRoute)
Bundle = Sent[types.ImportFields]


async def _bundle(
    request: Request, storage: Store, settings: Config, read: Read
) -> AsyncIterator[Bundle]:
    async with sent(
        request, storage, settings, read,
        from_json=partial(shaped_as, types.ImportRequest),
        from_form=partial(shaped_as, types.ImportFields),
        decoded=("metadata",),
        check=importing.recognise,
    ) as came:  # fmt: skip
        yield came


@router.post(
    "/import",
    status_code=202,
    response_model=types.Job,
    openapi_extra=json_or_files(types.ImportRequest, types.ImportFields),
)
def import_model(
    once: Once,
    bundle: Annotated[Bundle, Depends(_bundle, scope="function")],
    session: Write,
    settings: Config,
) -> JSONResponse:
    """Take in a bundle that was exported or packed elsewhere, as a model's next version.

    The same file under the same name is taken in once.
    """

    def create() -> Created:
        job = importing.place(session, settings, bundle.fields, bundle.stored)
        return Created(job_view(session, job).model_dump(mode="json"), f"/jobs/{job.id}")

    return once(session, bundle.fingerprint, create)
