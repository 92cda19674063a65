"""The usage of an owner, and the audit log."""

from typing import Literal

from pydantic import Field

from topwork.types.values import Answer


class Usage(Answer):
    """What one owner has stored and queued."""

    object: Literal["usage"] = Field("usage", description="Always `usage`.")
    owner: str = Field(description="Whose it is.")
    stored_bytes: int = Field(description="Bytes that count towards the limit.")
    bytes_by_kind: dict[str, int] = Field(
        description="Of datasets, models, uploads and batch predictions."
    )
    max_bytes: int | None = Field(description="null: as much as the disk holds.")
    queued_jobs: int = Field(description="Jobs that wait, paused ones among them.")
    max_queued_jobs: int = Field(description="How many may.")


class AuditEntry(Answer):
    """One thing that was done, or refused."""

    seq: int = Field(description="Number in the log, from 1 on.")
    at: str = Field(description="When, in UTC; this very text is sealed.")
    owner: str | None = Field(description="Whose key it was; null for a stranger.")
    key: str | None = Field(
        description="Id of the key; `admin_key` for the one of the settings, null without any."
    )
    address: str = Field(description="Where the request came from.")
    action: str = Field(
        description="Operation, as in the API document; `denied` where a request was turned away."
    )
    object: str = Field(description="What it was done to.")
    status: int = Field(description="HTTP status of the answer.")
    request_id: str = Field(description="Id under which logs name the request.")
    digest: str = Field(description="Seals this entry and all before it.")


class AuditHead(Answer):
    """The newest entry's number and digest; keep it elsewhere to prove the log later."""

    object: Literal["audit_head"] = Field("audit_head", description="Always `audit_head`.")
    seq: int = Field(description="Number of the newest entry; 0 where there is none.")
    digest: str = Field(description="Its digest.")
