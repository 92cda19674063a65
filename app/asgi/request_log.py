"""Middleware around every request: id, security headers, time limits of its body, log."""

import asyncio
import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.asgi.exception_handlers import internal
from app.asgi.handshake import as_get
from app.asgi.metrics import Counters
from app.asgi.problem import render
from app.asgi.request_id import HEADER, name
from topwork.errors import MalformedRequest, RequestTimeout, TopworkError, Unavailable

log = structlog.get_logger()
SLOWEST_BYTES_PER_SECOND = 1024
PROBES = {"/healthz", "/readyz"}  # Asked every few seconds; a good answer is no news.
OK = 200
REPLAYED = "Idempotent-Replayed"  # Marks an answer that was given before.
CSP = (
    "default-src 'self'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Envelope:
    """The outermost middleware; answers what nothing inside it could.

    Args:
        app: What it wraps.
        patience: Seconds without a byte of an unfinished body after which the answer is 408.
    """

    def __init__(self, app: ASGIApp, patience: float = 30.0) -> None:
        self.app = app
        self.patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            scope, receive, send = as_get(scope, receive, send)
        request_id = name(scope)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._serve(scope, receive, _Sender(send, request_id))

    async def _serve(self, scope: Scope, receive: Receive, send: "_Sender") -> None:
        started = time.monotonic()
        if scope["method"] == "HEAD":
            scope, send.bodiless = {**scope, "method": "GET"}, True
        try:
            _check_address(scope)
            await self.app(scope, _Patient(receive, self.patience), send)
        except _HeadAnswered:
            pass
        except TopworkError as error:
            await _answer(render(Request(scope), error), scope, receive, send)
        except asyncio.CancelledError:
            # The server ends what outlives its grace, and would answer with a bare 500.
            if send.status is not None:
                raise
            gone = Unavailable("the service is stopping")
            await _answer(render(Request(scope), gone), scope, receive, send)
        except Exception as error:
            log.exception("request.failed", method=scope["method"], path=scope["path"])
            await _answer(internal(Request(scope), error), scope, receive, send)
        finally:
            _note(scope, send, time.monotonic() - started)


def _check_address(scope: Scope) -> None:
    # Postgres refuses NUL in text, so it is kept out of every parameter here.
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        raise MalformedRequest("the address contains a NUL character")


def _note(scope: Scope, sent: "_Sender", seconds: float) -> None:
    """Log and count an answered request, under its route's pattern and not its address."""
    method, path, status = scope["method"], scope["path"], sent.status or 499
    problem = scope["state"].get("problem")
    named = {"code": problem} if problem else {}
    tell = log.debug if path in PROBES and status == OK else log.info
    tell("request", method=method, path=path, status=status, ms=round(seconds * 1000, 1), **named)
    counters: Counters = scope["app"].state.service.counters
    counters.request(method, getattr(scope.get("route"), "path", "other"), status, seconds)
    if problem:
        counters.problem(problem)
    if sent.replayed:
        counters.replay()


async def _answer(response: ASGIApp, scope: Scope, receive: Receive, send: "_Sender") -> None:
    if send.status is None:  # Otherwise the cut-off body is all that the client can be told.
        await response(scope, receive, send)


class _HeadAnswered(Exception):
    """The answer to HEAD is complete; what would be its body is not made, however long it is."""


class _Sender:
    """Adds the headers to the start of the answer and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None
        self.replayed = False
        self.bodiless = False  # The answer to HEAD is that to GET without its body.

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[HEADER] = self._request_id
            self.replayed = REPLAYED in headers
            for field, value in SECURITY_HEADERS.items():
                headers.setdefault(field, value)
        elif self.bodiless:
            await self._send({"type": "http.response.body"})
            raise _HeadAnswered
        await self._send(message)


class _Patient:
    """Waits for the next piece of a body, but neither for ever nor for a trickle."""

    def __init__(self, receive: Receive, patience: float) -> None:
        self._receive = receive
        self._patience = patience
        self._waited = 0.0
        self._bytes = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()  # From here on it means: wait for the disconnect.
        before = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout(f"no byte for {self._patience:g} s") from None
        self._waited += time.monotonic() - before
        self._bytes += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._waited > self._patience + self._bytes / SLOWEST_BYTES_PER_SECOND:
            raise RequestTimeout("the body arrives too slowly")
        return message
