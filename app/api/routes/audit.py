"""`/audit`: who changed what, and who was turned away; for admins."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from app.api.deps import Read, ServiceHere
from app.api.openapi import text_answer
from app.api.pagination import Paging
from app.api.views.rows import shaped
from app.asgi.request_body import StrictRoute
from core.domain import audit
from core.store.db import Database
from topwork import types

router = APIRouter(prefix="/audit", tags=["Keys"], route_class=StrictRoute)
Seq = Annotated[int, Query(ge=0, le=2**31 - 1, description="Number of the last entry seen.")]
Many = Annotated[int, Query(ge=1, le=1000, description="Most entries of one page.")]
Accept = Annotated[str, Header(include_in_schema=False)]
NDJSON = "application/x-ndjson"
LINE = (
    '{"seq": 1, "owner": "anna", "action": "create_dataset", "status": 202, "digest": "9f86..."}\n'
)


@router.get(
    "",
    response_model=types.Page[types.AuditEntry],
    responses=text_answer({NDJSON: LINE}),
)
async def list_audit(
    read: Read, service: ServiceHere, pager: Paging, after: Seq = 0, limit: Many = 100,
    accept: Accept = "",
) -> Any:  # fmt: skip
    """List what was done, the oldest first; all of it as NDJSON where `Accept` asks for it."""
    if NDJSON in accept:
        lines = _lines(service.resources.database, after)
        return StreamingResponse(lines, media_type=NDJSON)
    rows, has_more = await read(audit.page, limit=limit, after=after)
    return pager.page([shaped(types.AuditEntry, row) for row in rows], has_more, key="seq")


@router.get("/head")
async def get_audit_head(read: Read) -> types.AuditHead:
    """Return what proves, kept elsewhere, that the log up to here was not rewritten."""
    return types.AuditHead.model_validate(await read(audit.head), from_attributes=True)


def _lines(database: Database, after: int) -> Iterator[str]:
    """Yield every entry; a page at a time, so that no transaction stays open meanwhile."""
    more = True
    while more:
        with database.read() as session:
            rows, more = audit.page(session, limit=500, after=after)
        for row in rows:
            after = row.seq
            yield json.dumps(shaped(types.AuditEntry, row).model_dump()) + "\n"
