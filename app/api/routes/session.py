"""`/session`: who asks; and, for a browser, the key that it goes on asking with."""

from fastapi import APIRouter, Request, Response

from app.api import session_cookie
from app.api.authorization import bearer
from app.api.deps import Who
from app.asgi.request_body import StrictRoute
from core.store.row_access import Caller
from topwork import types

router = APIRouter(prefix="/session", tags=["Keys"], route_class=StrictRoute)


@router.get("")
async def get_session(who: Who) -> types.Session:
    """Return who asks and what for; where no key is needed, this machine is an admin."""
    return _session(who)


@router.post("")
async def create_session(who: Who, request: Request, response: Response) -> types.Session:
    """Keep the key of this request in a cookie that no script can read, for half a day."""
    key = bearer(request.headers)
    response.headers["Cache-Control"] = "no-store"
    if key:
        session_cookie.keep(response, key, secure=request.url.scheme == "https")
    return _session(who)


@router.delete("", status_code=204)
async def delete_session(response: Response) -> None:
    """Let the browser forget the key."""
    session_cookie.forget(response)


def _session(who: Caller) -> types.Session:
    return types.Session(owner=who.owner, scopes=sorted(who.scopes), key=who.key)
