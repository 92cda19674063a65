"""Access to rows by owner: a session opened for a caller sees only the caller's rows.

The filter sits under every SELECT, UPDATE and DELETE of such a session, so that a query which
says nothing about owners leaks nothing. A query that must count other people's rows, too, asks
for it by name: `statement.execution_options(**EVERYONE)`. Sessions of workers and of the sweep
have no caller and see everything.
"""

from dataclasses import dataclass, field

from sqlalchemy import event
from sqlalchemy.orm import (
    Mapped,
    ORMExecuteState,
    Session,
    UOWTransaction,
    mapped_column,
    with_loader_criteria,
)

from topwork.errors import InvalidField
from topwork.kinds import Scope

DEFAULT_OWNER = "default"
IMPLIED = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.PREDICT: frozenset({Scope.PREDICT}),
    Scope.TRAIN: frozenset({Scope.READ, Scope.PREDICT, Scope.TRAIN}),
    Scope.ADMIN: frozenset(Scope),
}
EVERYONE = {"topwork_everyone": True}


@dataclass(frozen=True)
class Caller:
    """Who a request comes from.

    Args:
        owner: Whose the rows are that it adds.
        scopes: What it may do; each implies others, see `IMPLIED`.
        key: Id of the key it came with, for the audit log, as is what follows.
        address: Where it came from.
        request: Its id.
    """

    owner: str
    scopes: frozenset[str]
    key: str | None = field(default=None, compare=False)
    address: str = field(default="", compare=False)
    request: str = field(default="", compare=False)

    def may(self, scope: str) -> bool:
        """Return whether one of the scopes is or implies this one."""
        return any(scope in IMPLIED[Scope(given)] for given in self.scopes)


ADMIN = Caller(DEFAULT_OWNER, frozenset({Scope.ADMIN}))
"""The bearer of TOPWORK_ADMIN_KEY, and this machine while there is no key at all."""


class Owned:
    """A row that belongs to somebody."""

    owner: Mapped[str] = mapped_column(
        default=DEFAULT_OWNER, server_default=DEFAULT_OWNER, index=True
    )


class OwnedSession(Session):
    """A session that may be opened for a caller: `OwnedSession(engine, info={"caller": ...})`."""


def owner_of(session: Session) -> str:
    """Return whose the rows are that a session adds."""
    caller: Caller | None = session.info.get("caller")
    return caller.owner if caller else DEFAULT_OWNER


def request_of(session: Session) -> str | None:
    """Return the id of the request that a session serves; None where it serves none."""
    caller: Caller | None = session.info.get("caller")
    return caller.request or None if caller else None


@event.listens_for(OwnedSession, "do_orm_execute")
def _show_own_rows(state: ORMExecuteState) -> None:
    caller: Caller | None = state.session.info.get("caller")
    if caller is None or caller.may(Scope.ADMIN) or state.execution_options.get("topwork_everyone"):
        return
    if not state.is_column_load and not state.is_relationship_load:
        owner = caller.owner
        own = with_loader_criteria(Owned, lambda row: row.owner == owner, include_aliases=True)
        state.statement = state.statement.options(own)


@event.listens_for(OwnedSession, "before_flush")
def _sign(session: Session, _context: UOWTransaction, _instances: object) -> None:
    for row in session.new:
        if isinstance(row, Owned) and vars(row).get("owner") is None:
            row.owner = owner_of(session)
    for row in (*session.new, *session.dirty):
        for name, value in vars(row).items():
            if isinstance(value, str) and "\0" in value:  # Postgres refuses it, SQLite does not.
                raise InvalidField("text contains a NUL character", param=name)
