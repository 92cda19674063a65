"""Imports of models: requests checked and turned into jobs."""

from sqlalchemy.orm import Session

from app.api.finetuning import check_own_name
from app.api.uploads.multipart_archive import Stored, Upload
from app.api.uploads.received import spend, use_up
from core.domain import imports, jobs, registry, usage
from core.store.row_access import owner_of
from core.store.tables import Job
from core.system.atomic_files import sha256
from core.system.settings import Settings
from topwork import types
from topwork.errors import BundleInvalid, UploadNotFound
from topwork.kinds import JobKind

ZIP = b"PK\x03\x04"


def place(
    session: Session, settings: Settings, asked: types.ImportFields, stored: Stored | None
) -> Job:
    """Add the job in the caller's transaction, or return the one that has the same file already.

    Raises:
        InvalidField: The name is that of an architecture.
        NameTaken: It belongs to another owner.
        UploadNotFound: There is no such upload, or another request has used it.
        QueueFull: Too many jobs wait.
        QuotaExceeded: The owner may not store so much.
    """
    check_own_name(asked.name)
    usage.in_line(session)
    registry.check_name(session, asked.name)
    if stored is None:
        raise UploadNotFound(param="upload")
    found = imports.earlier(session, asked.name, str(stored.upload.sha256))
    if found is not None:
        spend(session, stored)
        return found
    usage.check_queue(session, settings, owner_of(session))
    config = {"name": asked.name, **use_up(session, settings, stored)}
    return jobs.submit(
        session, kind=JobKind.IMPORT, config=config,
        priority=asked.priority, metadata=asked.metadata,
    )  # fmt: skip


def recognise(upload: Upload) -> None:
    """Hash what was sent, and refuse what is no zip file; for a thread, as all of it is read.

    Raises:
        BundleInvalid: It is another file, or several.
    """
    with upload.path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            raise BundleInvalid(param="file")
    upload.sha256 = upload.sha256 or sha256(upload.path)
