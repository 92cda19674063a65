import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message
from structlog.testing import capture_logs

from app.asgi.metrics import Counters
from app.asgi.request_log import Envelope


async def reader(scope: Any, receive: Any, send: Any) -> None:
    body = await Request(scope, receive).body()
    await Response(body)(scope, receive, send)


async def endless(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1000):
        made.append(1)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})


made: list[int] = []


class App:
    """Stands for the application that a scope names."""

    class state:  # noqa: N801 - as on a real one.
        class service:  # noqa: N801 - as on a real one.
            counters = Counters()


def call(messages: Iterator[tuple[float, Message]], patience: float) -> list[Message]:
    """Send a body whose pieces come after so many seconds; return what was answered."""
    sent: list[Message] = []

    async def receive() -> Message:
        wait, message = next(messages, (60.0, {"type": "http.disconnect"}))
        await asyncio.sleep(wait)
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/x", "headers": [], "app": App}
    asyncio.run(Envelope(reader, patience)(scope, receive, send))
    return sent


def piece(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        ("/healthz", 200, "debug"),
        ("/readyz", 200, "debug"),
        ("/readyz", 503, "info"),
        ("/jobs", 200, "info"),
    ],
)
def test_a_good_answer_to_a_probe_is_no_news(path: str, status: int, level: str) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await Response(status_code=status)(scope, receive, send)

    async def receive() -> Message:
        return piece(b"", more=False)

    async def send(_message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "app": App}
    with capture_logs() as logs:
        asyncio.run(Envelope(answer)(scope, receive, send))
    assert [(one["path"], one["status"], one["log_level"]) for one in logs] == [
        (path, status, level)
    ]


def test_head_does_not_make_the_body() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return piece(b"", more=False)

    made.clear()
    scope = {"type": "http", "method": "HEAD", "path": "/x", "headers": [], "app": App}
    asyncio.run(Envelope(endless)(scope, receive, send))
    assert len(made) == 1
    assert [(one["type"], one.get("body", b"")) for one in sent] == [
        ("http.response.start", b""),
        ("http.response.body", b""),
    ]


def test_a_body_that_stops_coming_is_408() -> None:
    answer = call(iter([(0.0, piece(b"x")), (60.0, piece(b"y"))]), patience=0.05)
    assert answer[0]["status"] == 408
    assert b"request_timeout" in answer[1]["body"]
    assert (b"connection", b"close") in answer[0]["headers"]


def test_a_trickle_is_408() -> None:
    answer = call(iter([(0.02, piece(b"x"))] * 1000), patience=0.1)
    assert answer[0]["status"] == 408


@pytest.mark.parametrize("pieces", [1, 20])
def test_a_steady_body_is_read(pieces: int) -> None:
    last = (0.0, piece(b"", more=False))
    answer = call(iter([(0.01, piece(b"x" * 2048))] * pieces + [last]), patience=0.1)
    assert answer[0]["status"] == 200
    assert len(answer[1]["body"]) == pieces * 2048
