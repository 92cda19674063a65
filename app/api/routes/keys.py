"""`/keys`: who may speak to this service; for admins."""

from fastapi import APIRouter, Response

from app.api.deps import Config, Read, Text, Who, Write
from app.api.pagination import Listing
from app.api.views.rows import shaped
from app.asgi.request_body import StrictRoute
from core.domain import keys
from topwork import types

router = APIRouter(prefix="/keys", tags=["Keys"], route_class=StrictRoute)


@router.get("")
async def list_keys(read: Read, cursor: Listing) -> types.Page[types.ApiKey]:
    """List keys without their secrets, the newest first; revoked ones stay listed."""
    return await cursor.read(read, keys.page, lambda _, row: shaped(types.ApiKey, row))


@router.post("", status_code=201)
def create_key(
    body: types.ApiKeyRequest, who: Who, session: Write, settings: Config, response: Response
) -> types.ApiKeyCreated:
    """Make a key. This answer alone shows it, so there is no `Idempotency-Key` here."""
    if not settings.admin_key.get_secret_value():
        keys.check_first(session, body.scopes)
    row, key = keys.create(
        session, owner=body.owner or who.owner, scopes=body.scopes,
        name=body.name, expires_in_days=body.expires_in_days,
    )  # fmt: skip
    response.headers["Cache-Control"] = "no-store"
    return shaped(types.ApiKeyCreated, row, key=key)


@router.delete("/{key_id}", status_code=204)
def revoke_key(key_id: Text, session: Write) -> None:
    """Make a key worthless at once; harmless where it is already."""
    keys.revoke(session, key_id)
