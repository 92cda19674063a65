"""A resumable upload as clients see it."""

from typing import Literal

from app.api.schemas.values import Answer, Moment
from core.store.tables import PartialUpload


class UploadOut(Answer):
    """An archive that arrives in pieces."""

    id: str
    object: Literal["upload"] = "upload"
    length: int
    """Bytes in all."""
    offset: int
    """Bytes that have arrived and are on disk."""
    filename: str | None
    owner: str
    created_at: Moment
    expires_at: Moment
    """Until then it can be used."""


def upload_out(row: PartialUpload, offset: int) -> UploadOut:
    """Return an upload of which so much has arrived."""
    facts = {name: getattr(row, name) for name in UploadOut.model_fields if name not in STATIC}
    return UploadOut(**facts, offset=offset)


STATIC = ("object", "offset")
