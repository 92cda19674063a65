"""Aliases of models: movable pointers to versions, with every move on record.

Whoever moves an alias holds the row of its model (`registry.get` with `lock`), so moves of one
model happen one after the other.
"""

from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.domain import registry, webhooks
from core.store.pagination import page_of
from core.store.tables import Alias, AliasMove, Model
from topwork.errors import ModelNotFound, StateConflict
from topwork.kinds import MoveKind, WebhookEvent
from topwork.types.promotions import Evidence


def of_model(session: Session, name: str) -> dict[str, int]:
    """Return alias -> version number of one model."""
    rows = session.scalars(select(Alias).where(Alias.name == name).order_by(Alias.alias))
    return {row.alias: row.number for row in rows}


def number_of(session: Session, name: str, alias: str) -> int | None:
    """Return the number of the version that an alias of an own model means, or None."""
    registry.get(session, name)
    row = session.get(Alias, (name, alias))
    return row.number if row else None


def point(
    session: Session,
    *,
    name: str,
    alias: str,
    number: int,
    kind: MoveKind = MoveKind.SET,
    evidence: Evidence | None = None,
) -> AliasMove:
    """Point an alias to a version, whether or not it existed.

    Raises:
        ModelNotFound: There is no such version.
    """
    registry.version(session, name, number)
    row = session.get(Alias, (name, alias), with_for_update=True)
    previous = row.number if row else None
    if row is None:
        row = Alias(name=name, alias=alias, number=number)
        session.add(row)
    row.number = number
    return _record(session, name, alias, kind, number, previous, evidence)


def remove(session: Session, *, name: str, alias: str) -> AliasMove:
    """Remove an alias, or raise ModelNotFound."""
    row = session.get(Alias, (name, alias))
    if row is None:
        raise ModelNotFound(f"{name!r} has no alias {alias!r}", param="alias")
    previous = row.number
    session.delete(row)
    return _record(session, name, alias, MoveKind.REMOVAL, None, previous, None)


def roll_back(session: Session, *, name: str, alias: str) -> AliasMove:
    """Point an alias to where it pointed before its last move that was not rolled back.

    Versions that were deleted since are passed over.

    Raises:
        ModelNotFound: There is no such alias.
        StateConflict: It never pointed elsewhere.
    """
    now = number_of(session, name, alias)
    if now is None:
        raise ModelNotFound(f"{name!r} has no alias {alias!r}", param="alias")
    left = {version.number for version in registry.versions(session, name)}
    trail = [number for number in _trail(session, name, alias) if number in left]
    earlier = [number for number, later in pairwise(trail) if number != later]
    if not earlier:
        hint = "GET .../moves lists where it pointed."
        raise StateConflict(f"{name}@{alias} has pointed to nothing else", hint=hint)
    return point(session, name=name, alias=alias, number=earlier[-1], kind=MoveKind.ROLLBACK)


def _trail(session: Session, name: str, alias: str) -> list[int]:
    """Return where an alias pointed, the newest last, without what was rolled back."""
    trail: list[int] = []
    wanted = select(AliasMove).where(AliasMove.name == name, AliasMove.alias == alias)
    for move in session.scalars(wanted.order_by(AliasMove.seq)):
        if not trail and move.previous is not None:
            trail.append(move.previous)  # It was set before moves were recorded.
        if move.number is None:
            trail.clear()
        elif move.kind == MoveKind.ROLLBACK:
            while trail and trail[-1] != move.number:
                trail.pop()
        elif trail[-1:] != [move.number]:
            trail.append(move.number)
    return trail


def _record(
    session: Session,
    name: str,
    alias: str,
    kind: MoveKind,
    number: int | None,
    previous: int | None,
    evidence: Evidence | None,
) -> AliasMove:
    wanted = select(AliasMove.seq).where(AliasMove.name == name, AliasMove.alias == alias)
    last = session.scalars(wanted.order_by(AliasMove.seq.desc()).limit(1)).first()
    move = AliasMove(
        name=name,
        alias=alias,
        seq=(last or 0) + 1,
        owner=session.get_one(Model, name).owner,
        kind=kind,
        number=number,
        previous=previous,
        evidence=evidence and evidence.model_dump(mode="json", by_alias=True),
    )
    session.add(move)
    session.flush()
    session.refresh(move)
    told = {"model": name, "alias": alias, "kind": kind, "version": number, "previous": previous}
    webhooks.tell(session, move.owner, WebhookEvent.ALIAS_MOVED, told)
    return move


def moves(
    session: Session,
    *,
    name: str,
    alias: str,
    limit: int = 20,
    after: int | None = None,
    order: str = "desc",
) -> tuple[list[AliasMove], bool]:
    """Return up to `limit` moves of an alias beyond the cursor and whether there are more."""
    registry.get(session, name)
    wanted = select(AliasMove).where(AliasMove.name == name, AliasMove.alias == alias)
    return page_of(session, wanted, AliasMove.seq, limit=limit, after=after, order=order)
