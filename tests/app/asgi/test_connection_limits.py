"""Heads of requests, byte by byte, against the server as it listens."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.responses import Response, StreamingResponse

from app.asgi import connection_limits, framing
from app.asgi.connection_limits import HEAD_BYTES
from tests.app.asgi.listening import listening
from tests.waiting import wait_for

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Padding: "


LARGE = 32 * 1024 * 1024
MOST = 20


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, unless the path is `/refused`, and answer as the path says."""
    while scope["path"] != "/refused" and (await receive()).get("more_body"):
        pass
    made: Response = Response(b"a" * LARGE if scope["path"] == "/large" else b"")
    if scope["path"] == "/endless":
        made = StreamingResponse(endless())
    await made(scope, receive, send)


async def endless() -> Any:
    while True:
        await asyncio.sleep(0)
        yield b"a" * 65_536


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    """A server with the protocol and impatient clocks."""
    monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(framing, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(connection_limits, "SEND_SECONDS", 0.5, raising=False)
    with listening(answer, keep_alive=1, limit_concurrency=MOST) as server:
        yield server


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    return server.config.port


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


REFUSED = b"POST /refused HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def ends(wire: socket.socket) -> bool:
    """Whether the other side closes; reading times out where it does not."""
    try:
        while wire.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("said", [b"", b"a"], ids=["nothing", "a byte"])
def test_a_refused_body_is_not_waited_for(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(REFUSED)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200")
        wire.sendall(said)
        assert ends(wire)


def test_a_trickle_of_a_refused_body_buys_no_time(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as wire:
        wire.sendall(REFUSED)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200")

        def gone() -> bool:
            try:
                wire.sendall(b"a")
                return wire.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_for(gone, 10)


def test_a_refused_body_that_comes_is_read_so_that_its_answer_arrives(port: int) -> None:
    head = REFUSED.replace(b"10000000000", b"1000000")
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
            wire.sendall(head)
            wire.sendall(b"a" * 1_000_000)
            answer = wire.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"\r\nconnection: close\r\n" in answer


def test_a_client_that_waits_for_a_word_and_gets_its_answer_is_told_to_leave(port: int) -> None:
    """It need not send its body, and its next request must not be taken for that body."""
    head = REFUSED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(head)
        answer = wire.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize("said", [b"", b"\r\n", b"\r", b"G"])
def test_a_connection_kept_open_is_closed_whatever_follows(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(GET)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200")
        wire.sendall(said)
        assert ends(wire)


def reader(port: int, path: bytes) -> socket.socket:
    """A client that has asked and has little room for the answer."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    wire.settimeout(10)
    wire.connect(("127.0.0.1", port))
    wire.sendall(GET.replace(b"/", path, 1))
    return wire


@pytest.mark.parametrize("path", [b"/endless", b"/large"])
def test_who_does_not_read_is_cut_off(server: uvicorn.Server, path: bytes) -> None:
    with reader(server.config.port, path) as wire:
        assert wire.recv(1) == b"H"
        wait_for(lambda: not server.server_state.connections, 10)


def test_who_closes_in_an_answer_that_nobody_reads_is_cut_off(server: uvicorn.Server) -> None:
    with reader(server.config.port, b"/large") as wire:
        wire.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert wire.recv(1) == b"H"
        wait_for(lambda: not server.server_state.connections, 10)


def test_who_reads_slowly_is_served(port: int) -> None:
    paused = threading.Event()  # Never set: it only takes the time that a slow line would.
    with reader(port, b"/large") as wire:
        taken = 0
        while taken < LARGE and not paused.wait(0.1):
            for _ in range(16):
                piece = wire.recv(65_536)
                assert piece or taken >= LARGE, "cut off"
                taken += len(piece)
    assert taken >= LARGE


def test_one_connection_too_many_is_503(server: uvicorn.Server) -> None:
    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", server.config.port), timeout=10)

    held = [connect() for _ in range(MOST)]
    wait_for(lambda: len(server.server_state.connections) == MOST)
    with connect() as wire:
        refused = wire.makefile("rb").read()
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: " in refused
    assert b'"code":"unavailable"' in refused
    for wire in held:
        wire.close()
    wait_for(lambda: not server.server_state.connections)
    with connect() as wire:
        wire.sendall(GET)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200")
