"""HTTP/1.1 on the wire: a request's head is bounded in bytes and in time before anyone judges it.

The server underneath reads a head of any length for any time, without a key and into memory.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 32 * 1024  # Request line and header fields; nginx takes as much.
HEAD_SECONDS = 20.0
PIECE = 256 * 1024  # What one read of the socket may bring beyond the head.


class HeadTooLarge(Exception):
    """The head is longer than HEAD_BYTES; the parser turns this into 400 and closes."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit and a deadline for heads.

    Trailers count as part of the head. What the parser keeps to itself until it is complete (a
    field, the extension of a chunk) is counted as it comes in, from the last thing it handed on.
    """

    def connection_made(self, transport: Any) -> None:
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._fields = self._kept = 0
        self._deadline = self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse what has no end before it is complete."""
        if self._kept + len(data) > HEAD_BYTES + PIECE:
            self.send_400_response("The head of this request is too long.")
            return
        self._kept += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Count from here; a connection that is kept open begins again."""
        super().on_message_begin()
        self._fields = self._kept = 0
        self._deadline.cancel()
        self._deadline = self._start()

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
        self._deadline.cancel()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on."""
        self._kept = 0
        super().on_body(body)

    def _start(self) -> asyncio.TimerHandle:
        return self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _count(self, more: int) -> None:
        self._fields += more
        if self._fields > HEAD_BYTES:
            raise HeadTooLarge
