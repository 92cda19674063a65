"""The query parameters of lists, `?limit=20&after=<id>&order=desc`, and the pages that answer."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query, Request, Response
from sqlalchemy.orm import Session

from app.api.reading import Reader
from topwork.types.pages import Page

Row = TypeVar("Row")
Limit = Annotated[int, Query(ge=1, le=1000, description="Most items of one page.")]
After = Annotated[str | None, Query(max_length=600, description="Cursor: `last_id` of a page.")]
NumberAfter = Annotated[
    int | None, Query(ge=0, le=2**31 - 1, description="Cursor: `last_id` of a page.")
]
Order = Literal["asc", "desc"]
Direction = Annotated[Order, Query(description="Order of the items.")]


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
        self, request: Request, response: Response, limit: int, after: str | None, order: Order
    ) -> None:
        super().__init__(request, response)
        self.limit, self.after, self.order = limit, after, order

    async def read(
        self,
        read: Reader,
        page: Callable[..., tuple[Sequence[Row], bool]],
        view: Callable[[Session, Row], Any],
        **filters: Any,
    ) -> Page[Any]:
        """Return the rows that a `page` function of the domain reads here, as clients see them."""

        def query(session: Session) -> tuple[list[Any], bool]:
            rows, has_more = page(
                session, limit=self.limit, after=self.after, order=self.order, **filters
            )
            return [view(session, row) for row in rows], has_more

        return self.page(*await read(query))


# Coroutines, because FastAPI calls everything else in a thread.
async def _pager(request: Request, response: Response) -> Pager:
    return Pager(request, response)


async def _newest_first(
    request: Request,
    response: Response,
    limit: Limit = 20,
    after: After = None,
    order: Direction = "desc",
) -> Cursor:
    return Cursor(request, response, limit, after, order)


async def _by_name(
    request: Request,
    response: Response,
    limit: Limit = 20,
    after: After = None,
    order: Direction = "asc",
) -> Cursor:
    return Cursor(request, response, limit, after, order)


Paging = Annotated[Pager, Depends(_pager)]
Listing = Annotated[Cursor, Depends(_newest_first)]
NameListing = Annotated[Cursor, Depends(_by_name)]
