"""Resumable uploads as rows: whose they are, how long they will be, until when they may be used."""

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.db import db_now
from core.store.pagination import page_of
from core.store.row_access import EVERYONE, owner_of
from core.store.tables import PartialUpload
from topwork.errors import TooManyUploads, UploadNotFound

HOUR = 3600.0


def create(
    session: Session, *, length: int, filename: str | None, metadata: str, hours: float, most: int
) -> PartialUpload:
    """Add an upload of `length` bytes, of which none has arrived.

    Raises:
        TooManyUploads: The owner has `most` others open.
    """
    owner = owner_of(session)
    count = select(func.count()).select_from(PartialUpload).where(PartialUpload.owner == owner)
    if session.execute(count).scalar_one() >= most:
        raise TooManyUploads
    row = PartialUpload(
        length=length,
        filename=filename,
        upload_metadata=metadata,
        expires_at=db_now() + hours * HOUR,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def get(session: Session, upload_id: str) -> PartialUpload:
    """Return an upload or raise UploadNotFound."""
    row = session.get(PartialUpload, upload_id)
    if row is None:
        raise UploadNotFound(f"there is no upload {upload_id}", param="upload")
    return row


def page(
    session: Session, *, limit: int = 20, after: str | None = None, order: str = "desc"
) -> tuple[list[PartialUpload], bool]:
    """Return up to `limit` uploads beyond the cursor and whether there are more."""
    return page_of(
        session, select(PartialUpload), PartialUpload.id, limit=limit, after=after, order=order
    )


def delete(session: Session, upload_id: str) -> None:
    """Forget an upload, because it was used or is not wanted; one of two callers gets an error.

    Raises:
        UploadNotFound: There is none, or the other caller was faster.
    """
    get(session, upload_id)
    gone = session.execute(sql_delete(PartialUpload).where(PartialUpload.id == upload_id))
    if not gone.rowcount:  # type: ignore[attr-defined] # A DELETE's result counts rows.
        raise UploadNotFound(f"there is no upload {upload_id}", param="upload")


def lengths(session: Session) -> dict[str, int]:
    """Return the final lengths of everybody's uploads by id."""
    rows = session.execute(
        select(PartialUpload.id, PartialUpload.length), execution_options=EVERYONE
    )
    return {row[0]: row[1] for row in rows}


def forget_expired(session: Session) -> int:
    """Delete the rows of uploads whose time is over; return how many."""
    over = sql_delete(PartialUpload).where(PartialUpload.expires_at <= db_now())
    return int(session.execute(over).rowcount)  # type: ignore[attr-defined] # As above.
