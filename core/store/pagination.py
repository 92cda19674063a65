"""Pagination: the rows beyond a cursor, and whether there are more."""

from typing import TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = TypeVar("Row")
Key = TypeVar("Key", str, int)


def page_of(
    session: Session,
    wanted: Select[Row],
    key: InstrumentedAttribute[Key],
    *,
    limit: int,
    after: Key | None,
    order: str,
) -> tuple[list[Row], bool]:
    """Return up to `limit` of the `wanted` rows beyond `after`, and whether there are more.

    Args:
        session: Reads them.
        wanted: The whole list, in any order.
        key: What the list is ordered by; unique.
        limit: Most rows.
        after: The last key of the page before; None for the first page.
        order: `asc` or `desc`.
    """
    falling = order == "desc"
    if after is not None:
        wanted = wanted.where(key < after if falling else key > after)
    wanted = wanted.order_by(key.desc() if falling else key)
    rows = list(session.scalars(wanted.limit(limit + 1)))
    return rows[:limit], len(rows) > limit
