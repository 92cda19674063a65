"""ETags: 304 for what the client has already, 412 where what it wants to change has changed."""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Header, Request, Response
from pydantic import BaseModel

from app.asgi.request_body import StrictRoute
from topwork.errors import PreconditionFailed

OK = 200
IfMatch = Annotated[
    str | None, Header(description="ETag under which it was read; `*` for whichever it is.")
]


class TaggedRoute(StrictRoute):
    """A route whose GET and PATCH answers carry the hash of their body as ETag, or another."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def tagged(request: Request) -> Response:
            response = await handle(request)
            if request.method not in {"GET", "PATCH"} or response.status_code != OK:
                return response
            body = getattr(response, "body", None)  # A stream has none.
            if body is not None and "etag" not in response.headers:
                response.headers["ETag"] = _tag(body)
            if request.method == "PATCH":
                return response
            response.headers.setdefault("Cache-Control", "private, no-cache")
            tag = response.headers.get("etag")
            if tag is None or not matches(request.headers.get("if-none-match", ""), tag):
                return response
            kept = ("etag", "cache-control", "link")
            headers = {name: value for name, value in response.headers.items() if name in kept}
            return Response(status_code=304, headers=headers)

        return tagged


def matches(wanted: str, tag: str) -> bool:
    """Return whether an `If-None-Match` header names an ETag, weakly compared (RFC 9110 13.1.2)."""
    named = {one.strip().removeprefix("W/") for one in wanted.split(",")}
    return "*" in named or tag.removeprefix("W/") in named


def expect(wanted: str | None, tag: str | None) -> None:
    """Go on only with an object whose ETag an `If-Match` header names (RFC 9110, 13.1.1).

    Args:
        wanted: The header, None without one.
        tag: The object's ETag as GET would answer it, None where there is no such object.

    Raises:
        PreconditionFailed: The header names others.
    """
    if wanted is None:
        return
    named = {one.strip() for one in wanted.split(",")}
    if tag is None or not named & {"*", tag}:
        found = "there is none" if tag is None else f"its ETag is {tag}"
        raise PreconditionFailed(f"not the one that was read: {found}", param="If-Match")


def tag_of(shown: BaseModel) -> str:
    """Return the ETag of an object's answer, as `TaggedRoute` sends it."""
    return _tag(shown.model_dump_json(by_alias=True).encode())


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
