"""Authorization: the scope that a request needs or, without any key, this machine only.

One middleware in front of every route and mount, deny by default; the public paths and the scope
that each noun asks for are the two short lists below. What the bearer may see is decided by the
database session (`core.store.row_access`), for which the middleware leaves the caller in the
request's state. Decisions use `scope["path"]`, which is what the router matches, never the
client-made `request.url` (CVE-2026-48710).
"""

import re
from contextlib import suppress
from dataclasses import replace

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import session_cookie
from app.api.authentication import Credentials
from app.asgi.bind import is_loopback
from app.asgi.origins import LOCAL_NAMES, names, without_port
from app.asgi.problem import render
from app.asgi.rate_limit import Buckets, subscriber
from core.domain import audit
from core.store.db import AWAY, Database
from core.store.row_access import ADMIN, Caller
from core.system.settings import Settings
from topwork.errors import Forbidden, TooManyRequests, TopworkError, Unavailable
from topwork.kinds import Scope as KeyScope

PUBLIC = frozenset({"/healthz", "/readyz", "/"})
PUBLIC_FILES = "/assets/"  # Of the web page, which holds no data and asks for a key itself.
ANY_KEY = frozenset({"/session"})
# The documentation holds no data; a browser on this machine may read it without the key.
PUBLIC_ON_THIS_MACHINE = frozenset(
    {"/docs", "/openapi.json", "/docs/init.js", "/docs/swagger-ui-bundle.js"}
    | {"/docs/swagger-ui.css", "/docs/favicon.png"}
)
# First part of the path -> the scopes for looking and for changing. Anything else is for admins.
SCOPES = {
    "finetune": (KeyScope.TRAIN, KeyScope.TRAIN),
    "predict": (KeyScope.PREDICT, KeyScope.PREDICT),
    "predictions": (KeyScope.READ, KeyScope.TRAIN),
    "jobs": (KeyScope.READ, KeyScope.TRAIN),
    "datasets": (KeyScope.READ, KeyScope.TRAIN),
    "uploads": (KeyScope.TRAIN, KeyScope.TRAIN),
    "models": (KeyScope.READ, KeyScope.TRAIN),
    "webhooks": (KeyScope.READ, KeyScope.TRAIN),
    "architectures": (KeyScope.READ, KeyScope.ADMIN),
    "metrics": (KeyScope.READ, KeyScope.ADMIN),
    "queue": (KeyScope.READ, KeyScope.ADMIN),
    "workers": (KeyScope.READ, KeyScope.ADMIN),
    "usage": (KeyScope.READ, KeyScope.ADMIN),
    "keys": (KeyScope.ADMIN, KeyScope.ADMIN),
    "audit": (KeyScope.ADMIN, KeyScope.ADMIN),
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
NOTED_DENIALS_PER_MINUTE = 60
# How proxies, caches and tunnels name themselves, or whom they speak for; `_` is read as `-`.
PROXIED = re.compile(
    r"(x-)?((forwarded|remote|client|true|proxy|original|real|fastly|fly|wl-proxy|cf|do|akamai)(-.*)?"
    r"|via|proxyuser-.*|cdn-loop|cloudfront-.*|incap-.*|ngrok-.*|ssl-.*|tailscale-.*)"
    r"|x-(amzn?|appengine|arr|auth|azure|bluecoat|cluster|coming|envoy|goog|ms|nginx|varnish)(-.*)?"
)


class Guard:
    """The middleware that lets a request through or answers 401, 403 or 429.

    Args:
        app: What it guards.
        settings: Where the admin key is.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._credentials = Credentials(settings)
        self._names = names(settings)
        self._public_docs = settings.public_docs
        self._keys = Buckets(settings.key_requests_per_minute)
        self._addresses = Buckets(settings.address_requests_per_minute)
        self._noting = anyio.CapacityLimiter(1)
        self._denials = Buckets(NOTED_DENIALS_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or say why not."""
        if scope["type"] != "lifespan":
            try:
                await self._admit(scope)
            except TopworkError as refusal:
                await render(Request(scope), refusal)(scope, receive, send)
                await self._note_denial(scope, refusal.status)
                return
            except AWAY:
                away = Unavailable("the database does not answer")
                await render(Request(scope), away)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        """Leave the caller in the request's state, or raise why there is none."""
        path = scope["path"]
        if path in PUBLIC or path.startswith(PUBLIC_FILES):
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._names and without_port(host) not in self._names:
            raise Forbidden(f"this service does not answer as {host[:100]!r}")
        foreign = _from_this_machine(scope, headers)
        if path in PUBLIC_ON_THIS_MACHINE and (foreign is None or self._public_docs):
            return
        caller = await self._caller(scope, headers, foreign)
        wanted = scope_of(scope["method"], path)
        if path not in PUBLIC_ON_THIS_MACHINE | ANY_KEY and not caller.may(wanted):
            raise Forbidden(f"this needs a key with the scope {str(wanted)!r}")
        scope.setdefault("state", {})["caller"] = caller

    async def _note_denial(self, scope: Scope, status: int) -> None:
        """Put a refusal into the audit log, after it was answered; but not without bound."""
        database: Database = scope["app"].state.service.resources.database
        stranger = Caller("", frozenset(), None, _address(scope), _request_id(scope))

        def note() -> None:
            with suppress(*AWAY), database.write() as session:
                thing = f"{scope['method']} {scope['path']}"
                audit.append(session, stranger, action="denied", thing=thing, status=status)

        with suppress(TooManyRequests):
            self._denials.take("")
            await anyio.to_thread.run_sync(note, limiter=self._noting)

    async def _caller(self, scope: Scope, headers: Headers, foreign: TopworkError | None) -> Caller:
        database: Database = scope["app"].state.service.resources.database
        if await self._credentials.exist(database):
            self._addresses.take(subscriber(_address(scope)))
            key = bearer(headers) or _kept(scope, headers)
            caller = await self._credentials.identify(database, _address(scope), key)
            self._keys.take(str(caller.key))
            return replace(caller, address=_address(scope), request=_request_id(scope))
        refusal = foreign or _cross_site(scope, headers)
        if refusal is not None:
            raise refusal
        return replace(ADMIN, address=_address(scope), request=_request_id(scope))


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _request_id(scope: Scope) -> str:
    return str(scope.get("state", {}).get("request_id", ""))


def scope_of(method: str, path: str) -> KeyScope:
    """Return the scope that a request needs."""
    looking, changing = SCOPES.get(
        path.removeprefix("/").partition("/")[0], (KeyScope.ADMIN, KeyScope.ADMIN)
    )
    return looking if method in SAFE_METHODS else changing


def bearer(headers: Headers) -> str:
    """Return the key in the Authorization header; nothing where there is none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _is_of_proxy(name: str) -> bool:
    return PROXIED.fullmatch(name.lower().replace("_", "-")) is not None


def _kept(scope: Scope, headers: Headers) -> str:
    """Return the key that the browser keeps; a change must come from this service's own page."""
    key = session_cookie.of(headers.get("cookie", ""))
    refusal = _cross_site(scope, headers) if key else None
    if refusal is not None:
        raise refusal
    if key and scope["method"] not in SAFE_METHODS and "origin" not in headers:
        raise Forbidden("a change with a cookie must say which page it comes from")
    return key


def _from_this_machine(scope: Scope, headers: Headers) -> TopworkError | None:
    """Return why the request does not come from this machine, addressed to this machine."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]) or any(map(_is_of_proxy, headers)):
        return Forbidden(
            "without a key only programs on this machine may speak to this service",
            hint="Set TOPWORK_ADMIN_KEY and send it as `Authorization: Bearer KEY`.",
        )
    host = headers.get("host", "")
    if without_port(host) not in LOCAL_NAMES:
        # A web page can make a browser send this by DNS rebinding.
        return Forbidden(f"this service does not answer as {host!r}", hint="Use http://127.0.0.1.")
    return None


def _cross_site(scope: Scope, headers: Headers) -> TopworkError | None:
    """Return why a changing request must not come from the web page that sent it."""
    if scope["method"] in SAFE_METHODS:
        return None
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        return Forbidden(f"pages of {origin} may not use this service")
    if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        return Forbidden("pages of other sites may not use this service")
    return None
