"""HTTP/1.1 framing: one answer a request, and no byte of a body is ever read as a request.

The server underneath stops reading a message behind its head when the client offers to change the
protocol, and takes what follows for the next request; behind a proxy that shares its connections
between clients, such bytes are those of somebody else. Here the offer is ignored, as RFC 9110
section 7.8 allows, and a connection is used again only where the whole request was read before it
was answered (RFC 9112 section 9.3). Both servers, that of the api and the predictor's, use it.
"""

import asyncio
import json
import re
import socket
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Literal

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.asgi.problem import MEDIA_TYPE, document, fields
from topwork.errors import MalformedRequest, TopworkError

UNREAD_SECONDS = 5.0  # For what a client still sends after its answer, so that it reads that.
UNREADABLE_BYTES = 1024 * 1024  # Of what follows a refused head or chunk; it may have no end.

log = structlog.get_logger()


class Unserved(Exception):
    """The request asks for a tunnel; the parser turns this into 400."""


class FramedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end to each request, or else to its connection."""

    def connection_made(self, transport: Any) -> None:
        """Begin between two requests."""
        super().connection_made(transport)
        # Head and body are two writes. asyncio sees to this, but not for listeners of one's own.
        with suppress(AttributeError, OSError):  # A unix socket has no such option.
            wire = transport.get_extra_info("socket")
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reading: Literal["nothing", "head", "body"] = "nothing"
        self._served: RequestResponseCycle | None = None  # The one that is being answered.
        self._persistent = False  # Whether its client lets the connection be used again.
        self._refusal: bytes | None = None  # Goes out once what came before it is answered.
        self._lingering: asyncio.TimerHandle | None = None
        self._passed_over = 0  # Bytes.

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock of an answered client."""
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, but nothing behind what was refused or answered before its end."""
        if self.deaf:
            self._pass_over(len(data))
            return
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while rest:
                rest = self._parse(rest)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.send_400_response("This is no HTTP/1.1 request that can be read.")

    def _pass_over(self, count: int) -> None:
        self._passed_over += count
        if self._refusal is not None and self._passed_over > UNREADABLE_BYTES:
            self.transport.close()

    def _parse(self, data: memoryview) -> memoryview:
        """Parse up to the end of a head with an offer to change the protocol; return the rest.

        The parser has ended there. Another one reads the same head without the offer, and goes on.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            head = self._head_without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As uvicorn does.
            self.parser.feed_data(head)
            return data[stop.args[0] :]
        return data[len(data) :]

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        super().on_message_begin()
        self._reading = "head"

    def on_headers_complete(self) -> None:
        """Let the request be served; until it was read to its end, an answer ends the connection.

        Raises:
            Unserved: The method is CONNECT.
        """
        if self.parser.get_method() == b"CONNECT":
            raise Unserved
        if self.parser.should_upgrade():
            return  # The head comes again.
        self._reading = "body"
        self._take_target()
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # Such a client knows no interim answers.
        super().on_headers_complete()
        self._persistent, self.cycle.keep_alive = self.cycle.keep_alive, False
        self.cycle.transport = _Answering(self)  # type: ignore[assignment] # As far as it looks.

    def _take_target(self) -> None:
        """Take an absolute target apart: its host replaces the field (RFC 9112 section 3.2.2)."""
        found = re.fullmatch(rb"[^/]*://([^/?#]*)(.*)", self.url, re.DOTALL)
        if found is not None:
            authority, path = found.groups()
            self.url = path if path.startswith(b"/") else b"/" + path
            others = [field for field in self.headers if field[0] != b"host"]
            self.headers[:] = [(b"host", authority), *others]

    def on_message_complete(self) -> None:
        """Let the connection be used again, unless the answer has begun."""
        if self.parser.should_upgrade():
            return
        self._reading = "nothing"
        super().on_message_complete()
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._persistent

    def on_response_complete(self) -> None:
        """Go on with the next request, or with the refusal of what came in its place."""
        if self._lingering is not None:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self._refusal is not None and not self.pipeline:
            self._refuse()

    def shutdown(self) -> None:
        """Close once the present request is answered."""
        self._persistent = False
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, after the answers to what came before it, and close."""
        log.info("request.unreadable", detail=msg, reading=self._reading)
        self._refusal = refusal(MalformedRequest(msg))
        if self._reading == "body":
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
            else:
                self._give_up()
        if self._served is None or self._served.response_complete:
            self._refuse()

    def _give_up(self) -> None:
        """Let the application see that the rest of the body never comes."""
        if self.cycle.response_started:
            self._refusal = b""  # What was sent already is the one answer.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self._served = None

    def _refuse(self) -> None:
        if self._refusal:
            self.transport.write(self._refusal)
        self.finish()

    def finish(self) -> None:
        """Close behind the last answer.

        Who closes with bytes unread makes the kernel take back the answer, so where the client may
        still be sending, only this side is closed at first (RFC 9112 section 9.6).
        """
        self._unset_keepalive_if_required()
        if self._reading == "nothing" and self._refusal is None:
            self.transport.close()
        elif not self.is_closing():
            self._lingering = self.loop.call_later(UNREAD_SECONDS, self.transport.close)
            self.flow.resume_reading()
            self.transport.write_eof()

    @property
    def deaf(self) -> bool:
        """Whether nothing more is read as a request."""
        return self._refusal is not None or self._lingering is not None

    def is_closing(self) -> bool:
        """Return whether the last answer is out."""
        return self._lingering is not None or self.transport.is_closing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)


class _Answering:
    """What an answer is written to: the connection, closed as the protocol closes it."""

    def __init__(self, protocol: FramedProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        """Send a piece of the answer, unless the connection has had its last one."""
        if not self.is_closing():
            self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        """Return whether nothing more can be sent."""
        return self._protocol.is_closing()

    def close(self) -> None:
        """Close behind the answer."""
        self._protocol.finish()


def refusal(error: TopworkError) -> bytes:
    """Return the whole answer to what never becomes a request of the application."""
    body = json.dumps(document(error), separators=(",", ":")).encode()
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        *(f"{name.lower()}: {value}" for name, value in fields(error).items()),
        "connection: close",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
