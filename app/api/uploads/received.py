"""Requests that bring files, whichever way they come: JSON that names an upload, or a form."""

import hashlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio.to_thread
from fastapi import Request
from sqlalchemy.orm import Session

from app.api.reading import Reader
from app.api.uploads.multipart_archive import FieldReader, Stored, Upload, stored, uploaded
from app.api.uploads.resumable import find
from app.asgi.multipart import FORM
from app.asgi.request_body import (
    JSON,
    StrictRequest,
    decode,
    media_type,
    members,
    unsupported,
)
from core.domain import uploads, usage
from core.store.object_store import Storage
from core.store.row_access import owner_of
from core.system.settings import Settings
from topwork.errors import UploadNotFound

Fields = TypeVar("Fields")


@dataclass(frozen=True)
class Received(Generic[Fields]):
    """What a request says, and its images on this disk.

    There is no upload where the request names none, and none where it names one that is not there:
    a repeated request can still get the answer of the first one, which has used it up.
    """

    fields: Fields
    fingerprint: str
    upload: Upload | None


@asynccontextmanager
async def received(
    request: Request,
    settings: Settings,
    read: Reader,
    *,
    from_json: Callable[[dict[str, Any]], Fields],
    from_form: Callable[[dict[str, Any]], Fields],
    read_field: FieldReader,
) -> AsyncIterator[Received[Fields]]:
    """Read a request for as long as its images are needed.

    Args:
        request: The request, its body unread.
        settings: Limits and the folder.
        read: Finds the upload that JSON names as `upload`.
        from_json: Makes the fields from a JSON object.
        from_form: Makes them from what is kept of the fields of a form.
        read_field: Returns what is kept of one of these; see `uploaded`.

    Raises:
        UnsupportedMedia: The body is neither.
        UploadIncomplete: Some of the upload has yet to arrive.
    """
    assert isinstance(request, StrictRequest)  # noqa: S101 - made so by the route class.
    if media_type(request) == JSON:
        body = members(await request.json())
        fields = from_json(body)
        upload = await find(read, settings, body["upload"]) if body.get("upload") else None
        yield Received(fields, hashlib.sha256(await request.body()).hexdigest(), upload)
    elif media_type(request) == FORM:
        async with uploaded(request, settings, read_field) as upload:
            yield Received(from_form(upload.fields), upload.fingerprint, upload)
    else:
        raise unsupported(request, JSON, FORM)


@dataclass(frozen=True)
class Sent(Generic[Fields]):
    """What a request says, and its files in storage, until a job uses them up or it ends."""

    fields: Fields
    fingerprint: str
    stored: Stored | None


@asynccontextmanager
async def sent(
    request: Request,
    storage: Storage,
    settings: Settings,
    read: Reader,
    *,
    from_json: Callable[[dict[str, Any]], Fields],
    from_form: Callable[[dict[str, Any]], Fields],
    decoded: Collection[str],
    check: Callable[[Upload], None] | None = None,
) -> AsyncIterator[Sent[Fields]]:
    """Read a request as `received` does, and store its files.

    Args:
        request: As of `received`, like all others but these.
        storage: Where the files go.
        settings: Limits and the folder.
        read: Finds an upload.
        from_json: Makes the fields.
        from_form: Likewise.
        decoded: Fields of a form that are JSON.
        check: Refuses files before they are stored; called in a thread.
    """

    def read_field(name: str, text: str) -> Any:
        return decode(text) if name in decoded else text

    async with received(
        request, settings, read, from_json=from_json, from_form=from_form, read_field=read_field
    ) as came:
        if check is not None and came.upload is not None:
            await anyio.to_thread.run_sync(check, came.upload)
        async with stored(storage, came.upload) as handle:
            yield Sent(came.fields, came.fingerprint, handle)


def use_up(session: Session, settings: Settings, stored: Stored | None) -> dict[str, Any]:
    """Let the caller's transaction use up what was stored; return what its job's config says of it.

    Raises:
        UploadNotFound: There is nothing, or another request has used it.
        QuotaExceeded: The owner may not store so much.
    """
    stored = spend(session, stored)
    usage.check_bytes(session, settings, owner_of(session), stored.size)
    stored.kept = True
    return {"upload": stored.key, "bytes": stored.size, "sha256": stored.upload.sha256}


def spend(session: Session, stored: Stored | None) -> Stored:
    """Close the upload whose pieces were put together, for one request alone; return what it was.

    Raises:
        UploadNotFound: There is nothing, or another request has used it.
    """
    if stored is None:
        raise UploadNotFound(param="upload")
    if stored.upload.partial is not None:
        uploads.delete(session, stored.upload.partial)
        stored.spent = True
    return stored
