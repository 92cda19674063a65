"""`/uploads`: large archives in pieces, resumable after a lost connection (tus 1.0)."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app.api.deps import Config, Read, Text, ThisUpload, Write
from app.api.idempotency import Created, Once
from app.api.openapi import raw_body
from app.api.pagination import Listing
from app.api.uploads import partial_file, resumable, tus
from app.api.uploads.tus import TusRoute
from app.api.views.rows import shaped
from app.asgi.request_body import StrictRequest
from core.domain import uploads
from core.store.tables import PartialUpload
from topwork import types
from topwork.errors import MalformedRequest

router = APIRouter(prefix="/uploads", tags=["Uploads"], route_class=TusRoute)
Length = Annotated[
    int | None,
    Header(
        alias="Upload-Length", ge=0, le=2**62, description="Bytes in all.", examples=[1_048_576]
    ),
]
Metadata = Annotated[
    str,
    Header(
        alias="Upload-Metadata",
        description="`filename` and its value in Base64, which names the dataset.",
        examples=["filename cGV0cy56aXA="],
    ),
]
Offset = Annotated[
    int,
    Header(
        alias="Upload-Offset",
        ge=0,
        description="How many bytes have arrived before this piece.",
        examples=[0],
    ),
]
Hash = Annotated[
    str | None,
    Header(alias="Upload-Checksum", description="`sha256` and the piece's hash in Base64."),
]


@router.options("", status_code=204)
def get_upload_abilities(settings: Config, response: Response) -> None:
    """Name the version and the extensions of tus that are spoken here."""
    response.headers.update(tus.abilities(settings.max_archive_bytes))


@router.post("", status_code=201, response_model=types.Upload)
def create_upload(
    once: Once, session: Write, settings: Config, length: Length = None, metadata: Metadata = ""
) -> JSONResponse:
    """Announce an archive; send it to the address in `Location` with PATCH."""
    if length is None:
        raise MalformedRequest("the length is not given", param="Upload-Length")
    filename = tus.filename_in(metadata)

    def create() -> Created:
        row = resumable.begin(
            session, settings, length=length, filename=filename, metadata=metadata
        )
        body = shaped(types.Upload, row, offset=0).model_dump(mode="json")
        headers = {"Upload-Expires": tus.expiry(row.expires_at)}
        return Created(body, f"/uploads/{row.id}", 201, headers)

    return once(session, f"{length}\0{metadata}", create)


@router.get("")
async def list_uploads(read: Read, cursor: Listing, settings: Config) -> types.Page[types.Upload]:
    """List uploads that are not used yet, the newest first."""

    def view(_session: Session, row: PartialUpload) -> types.Upload:
        return shaped(types.Upload, row, offset=partial_file.size(settings, row.id))

    return await cursor.read(read, uploads.page, view)


@router.get("/{upload_id}")
def get_upload(row: ThisUpload, settings: Config, response: Response) -> types.Upload:
    """Say how much has arrived; `HEAD` gets it in `Upload-Offset`."""
    shown = shaped(types.Upload, row, offset=resumable.offset(settings, row.id))
    response.headers.update(_progress(shown.offset, row.expires_at))
    response.headers["Upload-Length"] = str(row.length)
    if row.upload_metadata:
        response.headers["Upload-Metadata"] = row.upload_metadata
    return shown


async def _received(
    row: ThisUpload, request: Request, settings: Config
) -> AsyncIterator[dict[str, str]]:
    assert isinstance(request, StrictRequest)  # noqa: S101 - made so by the route class.
    with partial_file.held(partial_file.path_of(settings, row.id)) as piece:
        await tus.receive(request, piece, row.length)
        yield _progress(piece.offset, row.expires_at)


@router.patch(
    "/{upload_id}", status_code=204, openapi_extra=raw_body(tus.PIECE), response_class=Response
)
async def append_to_upload(
    progress: Annotated[dict[str, str], Depends(_received)],
    _offset: Offset,
    _hash: Hash = None,
) -> Response:
    """Append a piece; what was answered with 204 is on disk."""
    return Response(status_code=204, headers=progress)


@router.delete("/{upload_id}", status_code=204)
def delete_upload(
    upload_id: Text, session: Write, settings: Config, later: BackgroundTasks
) -> None:
    """Forget an upload that is not wanted any more."""
    uploads.delete(session, upload_id)
    later.add_task(partial_file.remove, partial_file.path_of(settings, upload_id))


def _progress(offset: int, expires_at: float) -> dict[str, str]:
    return {
        "Upload-Offset": str(offset),
        "Upload-Expires": tus.expiry(expires_at),
        "Cache-Control": "no-store",
    }
