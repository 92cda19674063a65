"""`/keys`: who may speak to this service; for admins."""

from fastapi import APIRouter, Response

from app.api.deps import Config, Read, Text, Who, Write
from app.api.schemas.keys import KeyCreated, KeyOut, KeyRequest, key_created
from app.api.schemas.lists import Listing, Page
from app.asgi.request_body import StrictRoute
from core.domain import keys

router = APIRouter(prefix="/keys", tags=["Keys"], route_class=StrictRoute)


@router.get("")
def list_keys(session: Read, cursor: Listing) -> Page[KeyOut]:
    """List keys without their secrets, the newest first; revoked ones stay listed."""
    rows, has_more = keys.page(session, limit=cursor.limit, after=cursor.after, order=cursor.order)
    return cursor.page([KeyOut.model_validate(row) for row in rows], has_more)


@router.post("", status_code=201)
def create_key(
    wanted: KeyRequest, who: Who, session: Write, settings: Config, response: Response
) -> KeyCreated:
    """Make a key. This answer alone shows it, so there is no `Idempotency-Key` here."""
    if not settings.admin_key.get_secret_value():
        keys.check_first(session, wanted.scopes)
    row, key = keys.create(
        session, owner=wanted.owner or who.owner, scopes=wanted.scopes,
        name=wanted.name, expires_in_days=wanted.expires_in_days,
    )  # fmt: skip
    response.headers["Cache-Control"] = "no-store"
    return key_created(row, key)


@router.delete("/{key_id}", status_code=204)
def revoke_key(key_id: Text, session: Write) -> None:
    """Make a key worthless at once; harmless where it is already."""
    keys.revoke(session, key_id)
