"""`/models/{name}/aliases`: movable pointers to versions, promoted with evidence, rolled back."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app.api.deps import Read, Text, Write
from app.api.idempotency import Created, Once
from app.api.pagination import Direction, Limit, NumberAfter, Paging
from app.api.promotion import AliasName, TheEvidence, promote
from app.api.views.models import alias_view, move_view
from app.asgi.etag import IfMatch, TaggedRoute, expect
from core.domain import aliases, registry
from core.store.tables import AliasMove
from topwork import types

router = APIRouter(
    prefix="/models/{name}/aliases/{alias}", tags=["Models"], route_class=TaggedRoute
)


@router.get("")
async def get_alias(name: Text, alias: AliasName, read: Read, response: Response) -> types.Alias:
    """Return where an alias points; its ETag guards against lost updates."""
    number = await read(aliases.number_of, name, alias)
    shown = alias_view(name, alias, number)
    response.headers["ETag"] = _tag_of(number) or ""
    return shown


@router.put("")
def set_alias(
    name: Text, alias: AliasName, body: types.AliasRequest, session: Write, response: Response,
    if_match: IfMatch = None,
) -> types.Alias:  # fmt: skip
    """Point an alias to a version without asking for evidence, whether or not it existed."""
    _take(session, name, alias, if_match)
    moved = aliases.point(session, name=name, alias=alias, number=body.version)
    response.headers["ETag"] = _tag_of(moved.number) or ""
    return alias_view(name, alias, moved.number)


@router.delete("", status_code=204)
def delete_alias(name: Text, alias: AliasName, session: Write, if_match: IfMatch = None) -> None:
    """Remove an alias; the version stays."""
    _take(session, name, alias, if_match)
    aliases.remove(session, name=name, alias=alias)


@router.post("/promotions", status_code=201, response_model=types.AliasMove)
def promote_version(
    name: Text, alias: AliasName, body: types.PromotionRequest, once: Once, weighed: TheEvidence,
    session: Write, if_match: IfMatch = None,
) -> JSONResponse:  # fmt: skip
    """Point an alias to a version that passes a gate; one that fails it changes nothing."""

    def create() -> Created:
        _take(session, name, alias, if_match)
        return _created(promote(session, name, alias, body.version, weighed))

    return once(session, body.model_dump_json(), create)


@router.post("/rollback", status_code=201, response_model=types.AliasMove)
def roll_back_alias(
    name: Text, alias: AliasName, once: Once, session: Write, if_match: IfMatch = None
) -> JSONResponse:
    """Point an alias to where it pointed before its last move; asked again, one move further."""

    def create() -> Created:
        _take(session, name, alias, if_match)
        return _created(aliases.roll_back(session, name=name, alias=alias))

    return once(session, "", create)


@router.get("/moves")
async def list_alias_moves(
    name: Text, alias: AliasName, read: Read, pager: Paging, limit: Limit = 20,
    after: NumberAfter = None, order: Direction = "desc",
) -> types.Page[types.AliasMove]:  # fmt: skip
    """List the moves of an alias with what promotions rested on, the newest first."""
    rows, has_more = await read(
        aliases.moves, name=name, alias=alias, limit=limit, after=after, order=order
    )
    return pager.page([move_view(row) for row in rows], has_more)


def _take(session: Session, name: str, alias: str, if_match: str | None) -> None:
    """Hold the model, so that its aliases stay where they are, and go on where they are as read."""
    registry.get(session, name, lock=True)
    expect(if_match, _tag_of(aliases.number_of(session, name, alias)))


def _created(move: AliasMove) -> Created:
    body = move_view(move).model_dump(mode="json", by_alias=True)
    location = f"/models/{move.name}/aliases/{move.alias}"
    return Created(body, location, status=201, headers={"ETag": _tag_of(move.number) or ""})


def _tag_of(number: int | None) -> str | None:
    return None if number is None else f'"{number}"'
