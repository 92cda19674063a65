"""ETags of answers: a client that has one already gets 304 in place of the body."""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from app.http.bodies import StrictRoute

OK = 200


class TaggedRoute(StrictRoute):
    """A route whose GET answers carry the hash of their body as ETag, or another one of theirs."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def tagged(request: Request) -> Response:
            response = await handle(request)
            if request.method != "GET" or response.status_code != OK:
                return response
            body = getattr(response, "body", None)  # A stream has none.
            if body is not None and "etag" not in response.headers:
                response.headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
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
