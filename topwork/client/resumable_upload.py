"""Large files in pieces: a lost connection costs one piece, not the whole upload (tus 1.0)."""

import base64
import hashlib
import os
import time
import uuid
from typing import Any, BinaryIO

from topwork.client.errors import Unreachable
from topwork.client.folder_tar import FolderChanged
from topwork.client.transport import Http, Json
from topwork.errors import (
    ChecksumMismatch,
    RequestInFlight,
    RequestTimeout,
    Unavailable,
    UploadLocked,
    UploadOffsetMismatch,
)

LARGE = 16 * 1024 * 1024
PIECE = 8 * 1024 * 1024
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


def is_large(file: BinaryIO) -> bool:
    """Return whether a file is worth more than one request."""
    return _size(file) > LARGE


def send_in_pieces(http: Http, file: BinaryIO, name: str) -> str:
    """Upload a file and return the upload's id.

    What has arrived is asked for after each failure, and the rest is sent from there.

    Raises:
        TopworkError: The service refused, or did not take a byte for two minutes.
    """
    size = _size(file)
    encoded = base64.b64encode(name.encode("utf-8", "replace")).decode()
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": f"filename {encoded}"}
    path = http.send("POST", "/uploads", headers=headers).headers["location"]
    offset, moved = 0, time.monotonic()
    while offset < size:
        try:
            offset = _send_piece(http, path, file, offset)
            moved = time.monotonic()
        except PASSING:
            if time.monotonic() - moved > GIVEN_UP_AFTER:
                raise
            time.sleep(PAUSE)
            offset = _ask(http, path, offset)
    return path.rpartition("/")[2]


def use_up(http: Http, path: str, **options: Any) -> Json:
    """Return the answer to the POST that uses an upload, after as long a patience as a piece has.

    Nobody else knows the upload's id, so giving up early would throw all of it away. Every try
    carries the same key.

    Raises:
        TopworkError: The service refused, or gave no answer for two minutes.
    """
    headers, began = {"Idempotency-Key": str(uuid.uuid4())}, time.monotonic()
    while True:
        try:
            return http.json("POST", path, headers=headers, **options)
        except (*PASSING, RequestInFlight):
            if time.monotonic() - began > GIVEN_UP_AFTER:
                raise
            time.sleep(PAUSE)


def _send_piece(http: Http, path: str, file: BinaryIO, offset: int) -> int:
    file.seek(offset)
    data = bytearray()
    while len(data) < PIECE and (part := file.read(PIECE - len(data))):
        data += part
    if not data:
        raise FolderChanged("The file became shorter while it was being sent.")
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {
        **TUS,
        "Upload-Offset": str(offset),
        "Upload-Checksum": f"sha256 {digest}",
        "Content-Type": "application/offset+octet-stream",
    }
    answer = http.send("PATCH", path, headers=headers, content=bytes(data))
    return int(answer.headers["upload-offset"])


def _ask(http: Http, path: str, offset: int) -> int:
    """Return how much has arrived; what was known before where the service does not say."""
    try:
        # As HEAD, but an error has a body that says which it is.
        return int(http.send("GET", path, headers=TUS).headers["upload-offset"])
    except PASSING:
        return offset


def _size(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
