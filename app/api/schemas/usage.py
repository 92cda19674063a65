"""What an owner takes up, and the audit log, as clients see them."""

from typing import Literal

from app.api.schemas.values import Answer


class UsageOut(Answer):
    """What one owner has stored and queued."""

    object: Literal["usage"] = "usage"
    owner: str
    stored_bytes: int
    bytes_by_kind: dict[str, int]
    """Of datasets, models and uploads."""
    max_bytes: int | None
    """null: as much as the disk holds."""
    queued_jobs: int
    max_queued_jobs: int


class AuditOut(Answer):
    """One thing that was done, or refused."""

    seq: int
    at: str
    owner: str | None
    """Whose key it was; null for a stranger."""
    key: str | None
    """Id of the key; `admin_key` for the one of the settings, null without any."""
    address: str
    action: str
    """Name of the operation, as in the API document; `denied` where a request was turned away."""
    object: str
    """What it was done to."""
    status: int
    request_id: str
    digest: str
    """Seals this entry and all before it."""


class AuditHeadOut(Answer):
    """The newest entry's number and digest; keep it elsewhere to prove the log later."""

    object: Literal["audit_head"] = "audit_head"
    seq: int
    digest: str
