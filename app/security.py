"""Who may speak to this service: the bearer of the key, or, without a key, this machine only.

One middleware in front of every route and mount, deny by default; the public paths are the
short list below. Decisions use `scope["path"]`, which is what the router matches, never the
client-made `request.url` (CVE-2026-48710).
"""

import hmac

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.bind import is_loopback
from app.problems import render
from core.errors import Forbidden, TopworkError, Unauthorized
from core.settings import Settings

PUBLIC = frozenset({"/healthz", "/readyz"})
# The documentation holds no data; a browser on this machine may read it without the key.
PUBLIC_ON_THIS_MACHINE = frozenset(
    {"/", "/docs", "/openapi.json", "/docs/init.js", "/docs/swagger-ui-bundle.js"}
    | {"/docs/swagger-ui.css", "/docs/favicon.png"}
)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Guard:
    """The middleware that lets a request through or answers 401 or 403.

    Args:
        app: What it guards.
        settings: Where the key is.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._key = settings.admin_key.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or say why not."""
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal is not None:
                await render(Request(scope), refusal)(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return  # No websocket is served.
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> TopworkError | None:
        if scope["path"] in PUBLIC:
            return None
        headers = Headers(scope=scope)
        local = _from_this_machine(scope, headers)
        if self._key:
            open_here = local is None and scope["path"] in PUBLIC_ON_THIS_MACHINE
            return None if open_here or self._carries_key(headers) else Unauthorized()
        return local or _cross_site(scope, headers)

    def _carries_key(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), self._key)
        return same and scheme.lower() == "bearer"


def _from_this_machine(scope: Scope, headers: Headers) -> TopworkError | None:
    """Return why the request does not come from this machine, addressed to this machine."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]) or any(name in headers for name in FORWARDED):
        return Forbidden(
            "without a key only programs on this machine may speak to this service",
            hint="Set TOPWORK_ADMIN_KEY and send it as `Authorization: Bearer KEY`.",
        )
    host = headers.get("host", "")
    if _without_port(host) not in LOCAL_NAMES:
        # A web page can make a browser send this by DNS rebinding.
        return Forbidden(f"this service does not answer as {host!r}", hint="Use http://127.0.0.1.")
    return None


def _cross_site(scope: Scope, headers: Headers) -> TopworkError | None:
    """Return why a changing request must not come from the web page that sent it."""
    if scope["method"] in SAFE_METHODS:
        return None
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers["host"].lower():
        return Forbidden(f"pages of {origin} may not use this service")
    if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        return Forbidden("pages of other sites may not use this service")
    return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
