"""Multipart bodies as a stream of parts, parsed off the event loop and never held whole.

Starlette's own parser spools every file to /tmp before a route sees it, so an upload would need
its disk twice, and it opens one temporary file per part. Here a `Sink` gets the pieces at once.
"""

import time
from typing import Protocol

import anyio.to_thread
import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from app.asgi.request_body import StrictRequest, check_length
from topwork.errors import MalformedRequest, RequestTooLarge, TopworkError

BATCH = 512 * 1024  # Bytes handed to the parsing thread at once.
SLICE = 16 * 1024  # Bytes between two looks at the clock in that thread.
TURN_SECONDS = 0.05  # After which the thread is left to another request.
MOST_HEADERS = 4  # Of a part: its name, its type, its length and its encoding.
LONGEST_BOUNDARY = 256
FORM = "multipart/form-data"
FILE = "file"  # Name of the parts that carry files, whether or not they have a file name.


class Sink(Protocol):
    """Receives the parts of a form, one after another; called in a worker thread."""

    def begin(self, name: str, filename: str | None) -> None:
        """Start a part; a field has no filename."""

    def write(self, data: bytes) -> None:
        """Take the next piece of the part."""

    def end(self) -> None:
        """Finish the part."""


async def receive(
    request: StrictRequest,
    sink: Sink,
    *,
    limit: int,
    parts: int,
    too_large: type[TopworkError] = RequestTooLarge,
    parsers: anyio.CapacityLimiter | None = None,
) -> None:
    """Feed a multipart body into a sink.

    A part costs its thread some 0.1 ms, however few bytes it has, and parsing holds the
    interpreter. So parts are counted, empty ones as well, and requests take turns.

    Args:
        request: Its Content-Type must be multipart/form-data.
        sink: What it raises ends the reading.
        limit: Most bytes of the whole body.
        parts: Most parts of it.
        too_large: What is raised above either.
        parsers: Bounds how many forms are parsed at the same moment, where each may be long.

    Raises:
        MalformedRequest: The body is not the form it says it is, or ends early.
    """
    message = f"the form is larger than {limit} bytes"
    check_length(request.headers, limit, too_large)
    parser = _Parser(request.headers.get("content-type", ""), sink, parts, too_large)
    waiting, size = bytearray(), 0

    async def parse() -> None:
        data, done = memoryview(bytes(waiting)), 0
        waiting.clear()
        while done < len(data):
            done += await anyio.to_thread.run_sync(parser.feed, data[done:], limiter=parsers)

    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise too_large(message)
        waiting += piece
        if len(waiting) >= BATCH:
            await parse()
    await parse()
    parser.finish()


class _Parser:
    """Turns python-multipart's callbacks into the three calls of a sink."""

    def __init__(
        self, content_type: str, sink: Sink, parts: int, too_large: type[TopworkError]
    ) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not 0 < len(boundary) <= LONGEST_BOUNDARY:
            raise MalformedRequest("the form's Content-Type names no usable boundary")
        self._sink = sink
        self._parts, self._most, self._too_large = 0, parts, too_large
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._ended = False
        self._parser = python_multipart.MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, a, b: self._header[0].extend(data[a:b]),
                "on_header_value": lambda data, a, b: self._header[1].extend(data[a:b]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": lambda data, a, b: self._sink.write(data[a:b]),
                "on_part_end": self._sink.end,
                "on_end": self._on_end,
            },
            max_header_count=MOST_HEADERS,
        )

    def feed(self, data: memoryview) -> int:
        """Parse the next bytes for the length of a turn; return how many they were."""
        until, done = time.monotonic() + TURN_SECONDS, 0
        try:
            while done < len(data):
                done += self._parser.write(bytes(data[done : done + SLICE]))
                if time.monotonic() >= until:
                    break
        except FormParserError as error:
            raise MalformedRequest(f"not a valid form: {error}") from error
        return done

    def finish(self) -> None:
        """Check that the form is complete."""
        if not self._ended:
            raise MalformedRequest("the form ends before its closing boundary")

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._most:
            raise self._too_large(f"the form has more than {self._most} parts")
        self._disposition = b""

    def _on_header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"name" not in options:
            raise MalformedRequest("a part of the form has no name")
        filename = options.get(b"filename")
        self._sink.begin(_text(options[b"name"]), None if filename is None else _text(filename))

    def _on_end(self) -> None:
        self._ended = True


def _text(raw: bytes) -> str:
    """Decode a name; bytes that are not UTF-8 survive as lone surrogates, to be reported."""
    return raw.decode("utf-8", "surrogateescape")
