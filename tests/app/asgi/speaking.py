"""One connection to a protocol of the server, with pieces that arrive exactly as they are cut."""

import asyncio
import hashlib
import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Self

import uvicorn
from starlette.responses import JSONResponse
from uvicorn.server import ServerState

from tests.app.asgi.exchanges import Call, Exchange

AFTER = b"GET /after HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Echo:
    """An application that tells what it was asked, and keeps it.

    It answers `/refused` without a look at the body.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while scope["path"] != "/refused":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        call = Call(scope["method"].encode(), scope["raw_path"], body)
        self.calls.append(call)
        await JSONResponse(told(call))(scope, receive, send)


def told(call: Call) -> dict[str, str]:
    """What the application answers to a request."""
    return {
        "method": call.method.decode(),
        "path": call.path.decode(),
        "sha256": hashlib.sha256(call.body).hexdigest(),
    }


def read_answers(data: bytes, methods: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Return status and body of each whole final answer; nothing else may stand between them."""
    answers = []
    asked = iter(methods)
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1."), head
        if not end:
            break
        status = int(head.split(b" ")[1])
        if status < 200:
            continue
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(lines.get(b"content-length", len(data)))  # Without, up to the end.
        if next(asked, b"") == b"HEAD":
            length = 0
        if len(data) < length:
            break
        answers.append((status, data[:length]))
        data = data[length:]
    return answers


class Line:
    """The client's end of a connection whose other end is a protocol of the server."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._config = config
        self._state = ServerState()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._wire, far = socket.socketpair()
        self._wire.setblocking(False)  # noqa: FBT003 - the standard library's own signature.
        self.received = b""
        kind: Any = self._config.http_protocol_class
        _, self.protocol = await loop.connect_accepted_socket(
            lambda: kind(config=self._config, server_state=self._state, app_state={}), far
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._wire.close()
        while self._state.connections:  # noqa: ASYNC110 - the server has no event for it.
            await asyncio.sleep(0)
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    async def send(self, *pieces: bytes) -> None:
        """Send pieces; each has been read before the next one is sent."""
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            for piece in pieces:
                await loop.sock_sendall(self._wire, piece)
                for _ in range(3):
                    await asyncio.sleep(0)

    def hang_up(self) -> None:
        """Send no more."""
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_WR)

    async def read(self) -> bool:
        """Read what comes next; return whether it was not the end."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(20):
                piece = await loop.sock_recv(self._wire, 65_536)
        except ConnectionResetError:
            return False
        self.received += piece
        return bool(piece)


async def speak(config: uvicorn.Config, echo: Echo, exchange: Exchange, cut: int) -> None:
    """Go through one exchange, cut in two, and check all that has to come of it."""
    echo.calls.clear()
    methods = [call.method for call in exchange.calls]
    count = len(methods) + exchange.refused
    async with Line(config) as line:
        await line.send(*filter(None, (exchange.data[:cut], exchange.data[cut:])))
        if not count:
            line.hang_up()
        while len(read_answers(line.received, methods)) < count:
            assert await line.read(), f"{exchange.name}: the connection ended early"
        expected = list(exchange.calls)
        if exchange.refused or exchange.closes:
            while await line.read():
                pass
        else:
            await line.send(AFTER)
            expected.append(Call(b"GET", b"/after"))
            while len(read_answers(line.received, methods)) < count + 1:
                assert await line.read(), f"{exchange.name}: the connection is not kept"
    answers = read_answers(line.received, methods)
    assert echo.calls == expected, exchange.name
    statuses = [200] * len(expected) + [400] * exchange.refused
    assert [status for status, _ in answers] == statuses, exchange.name
    for (_, body), call in zip(answers, expected, strict=False):
        assert call.method == b"HEAD" or json.loads(body) == told(call), exchange.name


def speak_all(config: uvicorn.Config, echo: Echo, cuts: Iterable[tuple[Exchange, int]]) -> int:
    """Go through so many exchanges, one after the other; return their number."""

    async def everything() -> int:
        count = 0
        for exchange, cut in cuts:
            await speak(config, echo, exchange, cut)
            count += 1
        return count

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(everything())
