"""The tus 1.0 protocol: its headers, and pieces of a body on their way to the disk.

https://tus.io/protocols/resumable-upload with the extensions in `EXTENSIONS`.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import anyio
import anyio.to_thread
from fastapi import Request, Response

from app.api.uploads.partial_file import Piece
from app.asgi.multipart import BATCH
from app.asgi.problem import render
from app.asgi.request_body import StrictRequest, StrictRoute, check_length, media_type, unsupported
from topwork.errors import (
    ChecksumMismatch,
    MalformedRequest,
    PreconditionFailed,
    RequestTooLarge,
    TopworkError,
    UploadOffsetMismatch,
)

VERSION = "1.0.0"
ALGORITHMS = ("sha1", "sha256")  # The protocol demands the first.
EXTENSIONS = ("creation", "checksum", "expiration", "termination")
HERE = {"Tus-Resumable": VERSION}
PIECE = "application/offset+octet-stream"
CHANGING = {"POST", "PATCH", "DELETE"}
SPOKEN = {
    "name": "Tus-Resumable",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "enum": [VERSION]},  # Generators read no constant here.
    "description": "The version of tus that the client speaks.",
}
LONGEST_METADATA = 4096


class TusRoute(StrictRoute):
    """A route whose every answer names the protocol, and whose changing requests must."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Describe the header that changing requests must carry."""
        if CHANGING & set(options["methods"]):
            described = {"parameters": [SPOKEN]}
            options["openapi_extra"] = (options.get("openapi_extra") or {}) | described
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def spoken(request: Request) -> Response:
            try:
                if request.method in CHANGING:
                    _check_version(request)
                response = await handle(request)
            except TopworkError as error:
                response = render(request, error, headers={"Tus-Version": VERSION})
            response.headers.update(HERE)
            return response

        return spoken


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        hint = f"Send the header `Tus-Resumable: {VERSION}`."
        raise PreconditionFailed("the request speaks no tus 1.0", param="Tus-Resumable", hint=hint)


def abilities(most: int) -> dict[str, str]:
    """Return the headers that answer OPTIONS."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": ",".join(EXTENSIONS),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        "Tus-Max-Size": str(most),
    }


def expiry(moment: float) -> str:
    """Return a time as HTTP writes it."""
    return format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)


def filename_in(metadata: str) -> str | None:
    """Return the file name in an `Upload-Metadata` header.

    Raises:
        MalformedRequest: It is not a list of names with values in Base64.
    """
    if len(metadata) > LONGEST_METADATA:
        raise MalformedRequest("Upload-Metadata is too long", param="Upload-Metadata")
    found: dict[str, str] = {}
    for pair in filter(None, metadata.split(",")):
        name, _, value = pair.strip().partition(" ")
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            message = f"the value of {name!r} is not Base64 of UTF-8"
            raise MalformedRequest(message, param="Upload-Metadata") from None
    if "\0" in "".join(found.values()):
        raise MalformedRequest("a value contains a NUL character", param="Upload-Metadata")
    return found.get("filename") or found.get("name")


class Checksum:
    """Hashes a piece while it arrives.

    Args:
        header: `Upload-Checksum`: an algorithm and the expected hash in Base64.

    Raises:
        MalformedRequest: The algorithm is not one of ours, or the hash is no Base64.
    """

    def __init__(self, header: str) -> None:
        algorithm, _, encoded = header.partition(" ")
        try:
            self._expected = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise MalformedRequest("not Base64", param="Upload-Checksum") from None
        if algorithm not in ALGORITHMS:
            hint = "Use sha256."
            raise MalformedRequest("unknown algorithm", param="Upload-Checksum", hint=hint)
        self._hash = hashlib.new(algorithm, usedforsecurity=False)
        self.update = self._hash.update

    def fits(self) -> bool:
        """Return whether what came is what was announced."""
        return hmac.compare_digest(self._hash.digest(), self._expected)


async def receive(request: StrictRequest, piece: Piece, length: int) -> None:
    """Append a request's body to an upload of `length` bytes in all.

    Raises:
        UploadOffsetMismatch: `Upload-Offset` is not where the upload ends.
        RequestTooLarge: More comes than the upload has left.
        ChecksumMismatch: The body is not the announced one; nothing of it is kept.
    """
    if media_type(request) != PIECE:
        raise unsupported(request, PIECE)
    if request.headers.get("upload-offset") != str(piece.offset):
        raise UploadOffsetMismatch(f"the upload's offset is {piece.offset}", param="Upload-Offset")
    check_length(request.headers, length - piece.offset)
    announced = request.headers.get("upload-checksum")
    checksum = None if announced is None else Checksum(announced)
    if checksum is not None:
        await anyio.to_thread.run_sync(piece.announce_checksum)
    complete = False
    try:
        await _copy(request, piece, length, checksum)
        complete = True
    finally:
        with anyio.CancelScope(shield=True):
            proved = checksum is None or (complete and checksum.fits())
            await anyio.to_thread.run_sync(piece.keep if proved else piece.drop)
    if not proved:
        raise ChecksumMismatch(param="Upload-Checksum")


async def _copy(
    request: StrictRequest, piece: Piece, length: int, checksum: Checksum | None
) -> None:
    waiting, left = bytearray(), length - piece.offset

    def write() -> None:
        data = bytes(waiting)
        waiting.clear()  # Before the disk is asked: of what it refuses, a part may be there.
        if checksum is not None:
            checksum.update(data)
        piece.write(data)

    try:
        async for data in request.stream():
            left -= len(data)
            if left < 0:
                raise RequestTooLarge("more comes than the upload has left")
            waiting += data
            if len(waiting) >= BATCH:
                await anyio.to_thread.run_sync(write)
    finally:  # Also what came before a client went away.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(write)
