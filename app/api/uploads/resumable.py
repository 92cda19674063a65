"""Resumable uploads: from their first request to the dataset that uses them up."""

import anyio.to_thread
from sqlalchemy.orm import Session

from app.api.reading import Reader
from app.api.uploads import partial_file
from app.api.uploads.multipart_archive import Upload
from core.domain import datasets, uploads, usage
from core.store.resources import Resources
from core.store.row_access import owner_of
from core.store.tables import PartialUpload
from core.system import disk
from core.system.settings import Settings
from topwork.errors import ArchiveTooLarge, UploadIncomplete, UploadNotFound


def begin(
    session: Session, settings: Settings, *, length: int, filename: str | None, metadata: str
) -> PartialUpload:
    """Add an upload and its empty file.

    Raises:
        ArchiveTooLarge: It will be larger than an archive may be.
        DiskFull: It and the open ones would not all find room.
        TooManyUploads, QuotaExceeded: The owner has too many open, or too much stored.
    """
    if length > settings.max_archive_bytes:
        raise ArchiveTooLarge(f"the upload is larger than {settings.max_archive_bytes} bytes")
    usage.check_bytes(session, settings, owner_of(session), length)
    coming = partial_file.outstanding(settings, uploads.lengths(session))
    disk.require(settings.data_dir, coming + length, settings.disk_reserve_bytes)
    row = uploads.create(
        session,
        length=length,
        filename=filename,
        metadata=metadata,
        hours=settings.upload_hours,
        most=settings.max_open_uploads,
    )
    partial_file.begin(partial_file.path_of(settings, row.id))
    return row


def offset(settings: Settings, upload_id: str) -> int:
    """Return how many bytes have arrived.

    Raises:
        UploadLocked: Some are arriving now.
        UploadNotFound: The upload's file is not on this machine.
    """
    with partial_file.held(partial_file.path_of(settings, upload_id)) as piece:
        return piece.offset


async def find(read: Reader, settings: Settings, upload_id: str) -> Upload | None:
    """Return a caller's complete upload, or None where there is no such upload.

    Raises:
        UploadIncomplete: Some of it has yet to arrive.
    """
    try:
        row = await read(uploads.get, upload_id)
        arrived = await anyio.to_thread.run_sync(offset, settings, upload_id)
    except UploadNotFound:
        return None
    if arrived < row.length:
        message = f"{arrived} of {row.length} bytes have arrived"
        raise UploadIncomplete(message, param="upload")
    path = partial_file.path_of(settings, upload_id)
    return Upload(path, filename=row.filename or "archive", files=1, partial=upload_id)


def tidy(resources: Resources) -> None:
    """Forget uploads whose time is over, used or not, and files that no row knows."""
    with resources.database.write() as session:
        uploads.forget_expired(session)
        datasets.forget_unanswered(session, resources.settings.upload_hours)
        known = uploads.lengths(session)
    partial_file.remove_strays(resources.settings, known)
