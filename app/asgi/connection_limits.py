"""Limits of HTTP/1.1 connections: a time for head, body and answer, and a number of them.

The server underneath reads a head of any length for any time, without a key and into memory; it
forgets a connection that speaks out of turn, and waits for ever for one that does not listen.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from app.asgi.framing import FramedProtocol, refusal
from topwork.errors import Unavailable

HEAD_BYTES = 32 * 1024  # Request line and header fields; nginx takes as much.
HEAD_SECONDS = 20.0
SEND_SECONDS = 60.0  # In which a client must take something of what waits for it.
PIECE = 256 * 1024  # What one read of the socket may bring beyond the head.
UNSENT = 64 * 1024  # What the kernel takes ahead; with megabytes nobody could see a client stall.
BUSY = refusal(Unavailable("too many connections are open"))


class HeadTooLarge(Exception):
    """The head is longer than HEAD_BYTES; the parser turns this into 400 and closes."""


class BoundedProtocol(FramedProtocol):
    """uvicorn's protocol with limits and deadlines for all that a client alone decides.

    Trailers count as part of the head. What the parser keeps to itself until it is complete (a
    field, the extension of a chunk) is counted as it comes in, from the last thing it handed on.
    """

    def connection_made(self, transport: Any) -> None:
        """Start the clock for the first head, unless there are too many connections."""
        super().connection_made(transport)
        self._fields = self._kept = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        # uvicorn would take one more, read its request and answer in plain text.
        most, self.limit_concurrency = self.limit_concurrency, None
        if most is not None and len(self.connections) > most:
            transport.write(BUSY)
            self._end()
            return
        with suppress(AttributeError, OSError):  # A unix socket has no such option.
            wire = transport.get_extra_info("socket")
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self._start(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop()
        if self._sending is not None:
            self._sending.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse what has no end before it is complete."""
        if not self.deaf and self._kept + len(data) > HEAD_BYTES + PIECE:
            self.send_400_response("The head of this request is too long.")
        self._kept += len(data)
        super().data_received(data)
        # Whatever came has stopped the clock of idle connections, even if it began no request.
        idle = self.cycle is not None and self.cycle.response_complete and not self.deaf
        if idle and self._deadline is None and self.timeout_keep_alive_task is None:
            self._start(HEAD_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Stop the clock of a head that is not waited for any more."""
        self._stop()
        super().send_400_response(msg)

    def finish(self) -> None:
        """Stop the clock, and watch whether the client takes the last answer."""
        self._stop()
        super().finish()
        self._watch()

    def on_message_begin(self) -> None:
        """Count from here; a connection that is kept open begins again."""
        super().on_message_begin()
        self._fields = self._kept = 0
        self._start(HEAD_SECONDS)

    def on_url(self, url: bytes) -> None:
        """Count the target."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field."""
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Stop the clock; the body has limits of its own."""
        self._kept = 0
        self._stop()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on."""
        self._kept = 0
        super().on_body(body)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        self._end()

    def pause_writing(self) -> None:
        """Watch whether the client takes what waits for it."""
        super().pause_writing()
        self._watch()

    def _watch(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
        waiting = self.transport.get_write_buffer_size()
        self._sending = self.loop.call_later(SEND_SECONDS, self._look, waiting)

    def _look(self, before: int) -> None:
        """Cut off a client that has taken nothing since the last look."""
        waiting = self.transport.get_write_buffer_size()
        if waiting >= before > 0:
            self.transport.abort()
        elif waiting > 0:
            self._watch()

    def _end(self) -> None:
        """Close once what waits is sent, and without it where nobody takes it."""
        self._stop()
        self.transport.close()
        self._watch()

    def _start(self, seconds: float) -> None:
        self._stop()
        self._deadline = self.loop.call_later(seconds, self._end)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _count(self, more: int) -> None:
        self._fields += more
        if self._fields > HEAD_BYTES:
            raise HeadTooLarge
