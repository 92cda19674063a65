"""Lists, a page at a time: `?limit=20&after=<id>&order=desc`."""

from collections.abc import Sequence
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import Field

from topwork.types.values import Answer

Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """One page of a list; the header `Link` names the next one."""

    object: Literal["list"] = Field("list", description="Always `list`.")
    data: list[Item] = Field(description="The items of this page.")
    first_id: str | None = Field(None, description="Cursor of the first item.")
    last_id: str | None = Field(None, description="Cursor of the last item: the next `after`.")
    has_more: bool = Field(default=False, description="Whether a page follows.")

    @classmethod
    def of(cls, items: Sequence[Any], *, has_more: bool, key: str = "id") -> Self:
        """Return a page of objects whose attribute `key` is the cursor."""
        ids = [str(getattr(item, key)) for item in items]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        return cls(data=list(items), first_id=first, last_id=last, has_more=has_more)
