# Written by .ci/client.py, a part of `make format`, from ../asynchronous/resumable_upload.py.
"""Uploads: small files in one form, large ones in pieces, of which a lost one costs no other.

The pieces are those of tus 1.0.
"""

import time
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from topwork.client.exchange import Json, Shape
from topwork.client.sources import OnBytes, announcement, is_large, opened, piece_of
from topwork.client.synchronous.transport import Http
from topwork.errors import (
    ChecksumMismatch,
    RequestInFlight,
    RequestTimeout,
    Unavailable,
    Unreachable,
    UploadLocked,
    UploadOffsetMismatch,
)

GIVEN_UP_AFTER = 120.0  # Seconds without a byte of progress.
PAUSE = 1.0
PASSING = (
    ChecksumMismatch,
    RequestTimeout,
    Unavailable,
    Unreachable,
    UploadLocked,
    UploadOffsetMismatch,
)
TUS = {"Tus-Resumable": "1.0.0"}


def upload(
    http: Http,
    shape: type[Shape],
    path: str,
    data: Path,
    on_bytes: OnBytes,
    *,
    form: Json,
    body: Json,
    **query: Any,
) -> Shape:
    """Send a folder or an archive to the route that uses it up; return its answer.

    Args:
        http: The service.
        shape: Of the answer.
        path: The route.
        data: Folder or archive.
        on_bytes: Told bytes sent and bytes in all, in whichever thread reads them.
        form: Fields beside a file that goes in one request.
        body: The same for an upload that went in pieces.
        query: Parameters of the route.

    Raises:
        FolderUnusable, FolderChanged: The data cannot be read to its end.
        TopworkError: The service refused, or did not take a byte for two minutes.
    """
    name, file = opened(data, on_bytes)
    with file:
        if is_large(file):
            whole = {"upload": _send_in_pieces(http, file, name), **body}
            return _use_up(http, shape, path, params=query, json=whole)
        files = {"file": (name, file)}
        return http.ask(shape, "POST", path, params=query, data=form, files=files)


def _send_in_pieces(http: Http, file: BinaryIO, name: str) -> str:
    """Upload a file and return the upload's id.

    What has arrived is asked for after each failure, and the rest is sent from there.
    """
    headers = announcement(file, name)
    size = int(headers["Upload-Length"])
    created = http.send("POST", "/uploads", headers={**TUS, **headers})
    path = created.headers["location"]
    offset, moved = 0, time.monotonic()
    while offset < size:
        try:
            offset = _send_piece(http, path, file, offset)
            moved = time.monotonic()
        except PASSING:
            if time.monotonic() - moved > GIVEN_UP_AFTER:
                raise
            time.sleep(PAUSE)
            offset = _arrived(http, path, offset)
    return str(path.rpartition("/")[2])


def _send_piece(http: Http, path: str, file: BinaryIO, offset: int) -> int:
    """Send the bytes from `offset` on; return how much has arrived then."""
    data, headers = piece_of(file, offset)
    answer = http.send("PATCH", path, headers={**TUS, **headers}, content=data)
    return int(answer.headers["upload-offset"])


def _use_up(http: Http, shape: type[Shape], path: str, **fields: Any) -> Shape:
    """Return the answer to the POST that uses an upload, after as long a patience as a piece has.

    Nobody else knows the upload's id, so giving up early would throw all of it away. Every try
    carries the same key.
    """
    headers, began = {"Idempotency-Key": str(uuid.uuid4())}, time.monotonic()
    while True:
        try:
            return http.ask(shape, "POST", path, headers=headers, **fields)
        except (*PASSING, RequestInFlight):
            if time.monotonic() - began > GIVEN_UP_AFTER:
                raise
            time.sleep(PAUSE)


def _arrived(http: Http, path: str, offset: int) -> int:
    """Return how much has arrived; what was known before where the service does not say."""
    try:
        # As HEAD, but an error has a body that says which it is.
        answer = http.send("GET", path, headers=TUS)
        return int(answer.headers["upload-offset"])
    except PASSING:
        return offset
