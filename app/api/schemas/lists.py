"""Cursor lists: `?limit=20&after=<id>&order=desc`."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from fastapi import Depends, Query, Request, Response

from app.api.schemas.values import Answer

Item = TypeVar("Item")
Order = Literal["asc", "desc"]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most items of one page.")]
After = Annotated[str | None, Query(max_length=600, description="Cursor: `last_id` of a page.")]
Direction = Annotated[Order, Query(description="Order of the items.")]


class Page(Answer, Generic[Item]):
    """One page of a list; the header `Link` names the next one."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False

    @classmethod
    def of(cls, items: Sequence[Any], *, has_more: bool, key: str = "id") -> Self:
        """Return a page of objects whose attribute `key` is the cursor."""
        ids = [str(getattr(item, key)) for item in items]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        return cls(data=list(items), first_id=first, last_id=last, has_more=has_more)


class Pager:
    """Makes the pages of a list whose cursor the route reads itself."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request, self._response = request, response

    def page(self, items: Sequence[Any], has_more: bool, key: str = "id") -> Page[Any]:  # noqa: FBT001 - pairs with what `page()` functions return.
        """Return the page and name the next one in its `Link` header."""
        page = Page[Any].of(items, has_more=has_more, key=key)
        if has_more and page.last_id is not None:
            url = self._request.url.include_query_params(after=page.last_id)
            self._response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return page


class Cursor(Pager):
    """The query parameters of a list, and the page that answers them."""

    def __init__(
        self,
        request: Request,
        response: Response,
        limit: Limit = 20,
        after: After = None,
        order: Direction = "desc",
    ) -> None:
        super().__init__(request, response)
        self.limit, self.after, self.order = limit, after, order


class NameCursor(Cursor):
    """The query parameters of a list by name, which begins with A."""

    def __init__(
        self,
        request: Request,
        response: Response,
        limit: Limit = 20,
        after: After = None,
        order: Direction = "asc",
    ) -> None:
        super().__init__(request, response, limit, after, order)


Paging = Annotated[Pager, Depends(Pager)]
NameListing = Annotated[NameCursor, Depends(NameCursor)]
Listing = Annotated[Cursor, Depends(Cursor)]
