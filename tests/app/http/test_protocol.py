"""Heads of requests, byte by byte, against the server as it listens."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from app.http import protocol
from app.http.protocol import HEAD_BYTES, BoundedProtocol
from tests.waiting import wait_for

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Padding: "


async def answer(_scope: dict[str, object], receive: object, send: object) -> None:
    assert callable(send)
    assert callable(receive)
    while (await receive()).get("more_body"):
        pass
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server with the protocol and an impatient clock."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(answer, http=BoundedProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    wait_for(lambda: server.started, 20)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    listening.close()


def first_line(wire: socket.socket) -> bytes:
    return wire.makefile("rb").readline()


def test_a_head_within_the_limit_is_served_again_and_again(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        for _ in range(20):
            wire.sendall(HEAD + b"a" * (HEAD_BYTES - 200) + b"\r\n\r\n")
            assert wire.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("fields", [1, 40])
def test_a_head_beyond_the_limit_is_refused(port: int, fields: int) -> None:
    field = b"a" * (HEAD_BYTES // fields) + b"\r\nX-Padding: "
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(HEAD + field * fields + b"a" * 200 + b"\r\n\r\n")
        assert first_line(wire).startswith(b"HTTP/1.1 400")


CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "before",
    [HEAD, CHUNKED + b"1;", CHUNKED + b"0\r\nX-Padding: "],
    ids=["field", "chunk extension", "trailer"],
)
def test_what_has_no_end_is_refused_before_it_ends(port: int, before: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(before)
        try:
            for _ in range(1000):
                wire.sendall(b"a" * 65_536)
        except OSError:
            return  # 64 MiB were never taken.
    pytest.fail("an endless field was read to its end")


def test_a_large_body_with_trailers_leaves_the_connection_usable(port: int) -> None:
    body = b"".join(b"10000\r\n" + b"a" * 65_536 + b"\r\n" for _ in range(32))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        for _ in range(3):
            wire.sendall(CHUNKED + body + b"0\r\nX-Checksum: 1\r\n\r\n")
            assert wire.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("said", [b"", b"GET / HT", HEAD])
def test_a_head_that_does_not_come_costs_a_second(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(said)
        assert wire.recv(100) == b""
