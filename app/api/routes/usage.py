"""`/usage`: what the caller has stored and queued, and how much is allowed."""

from fastapi import APIRouter

from app.api.deps import Config, Read, Who
from app.api.schemas.usage import UsageOut
from app.asgi.request_body import StrictRoute
from core.domain import usage

router = APIRouter(prefix="/usage", tags=["Keys"], route_class=StrictRoute)


@router.get("")
def get_usage(session: Read, who: Who, settings: Config) -> UsageOut:
    """Return what counts towards the limits of the key's owner."""
    found = usage.of(session, who.owner)
    return UsageOut(
        owner=who.owner,
        stored_bytes=found.stored,
        bytes_by_kind={name: getattr(found, name) for name in ("datasets", "models", "uploads")},
        max_bytes=settings.max_bytes_per_owner or None,
        queued_jobs=found.queued_jobs,
        max_queued_jobs=settings.max_queued_jobs_per_owner,
    )
