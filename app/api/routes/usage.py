"""`/usage`: what the caller has stored and queued, and how much is allowed."""

from fastapi import APIRouter

from app.api.deps import Config, Read, Who
from app.asgi.request_body import StrictRoute
from core.domain import usage
from topwork import types

KINDS = ("datasets", "models", "uploads", "predictions")
router = APIRouter(prefix="/usage", tags=["Keys"], route_class=StrictRoute)


@router.get("")
async def get_usage(read: Read, who: Who, settings: Config) -> types.Usage:
    """Return what counts towards the limits of the key's owner."""
    used = await read(usage.of, who.owner)
    return types.Usage(
        owner=who.owner,
        stored_bytes=used.stored,
        bytes_by_kind={name: getattr(used, name) for name in KINDS},
        max_bytes=settings.max_bytes_per_owner or None,
        queued_jobs=used.queued_jobs,
        max_queued_jobs=settings.max_queued_jobs_per_owner,
    )
