"""Requests that no client library would send: 65 to 72 of the nasty corpus but 71."""

import contextlib
import select
import socket

from tests.e2e.conftest import Service


def raw(service: Service, request: bytes) -> bytes:
    """Send bytes no client library would until an answer comes; return its first line.

    Who goes on sending megabytes to a server that has answered and closed may lose the answer.
    """
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(request), 65_536):
                if select.select([wire], [], [], 0)[0]:
                    break
                wire.sendall(request[start : start + 65_536])
        try:
            return wire.makefile("rb").readline()
        except ConnectionResetError:
            return b"HTTP/1.1 499 the answer was lost"


def form(boundary: str, parts: list[str]) -> bytes:
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(body.encode())}\r\n\r\n"
    )
    return (head + body).encode()


def post(path: str, headers: str, body: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return f"{head}{headers}\r\n{body}".encode()


JSON = "Content-Type: application/json\r\n"
FIELD = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}'
FILE = 'Content-Disposition: form-data; name="file"; filename="{}"\r\n\r\nx'
GET = "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}\r\n"
# What is sent, and the status of the answer.
REQUESTS: dict[str, tuple[bytes, int]] = {
    "65 no boundary": (form("", [FILE.format("a")]).replace(b"; boundary=", b""), 400),
    "65 long boundary": (form("b" * 5000, [FILE.format("a")]), 400),
    "66 many parts": (form("b", [FILE.format("a")] * 1001), 413),
    "67 large text": (form("b", [FIELD.format("model", "x" * 20_000_000)]), 413),
    "68 path": (form("b", [FILE.format("../../etc/x")]), 422),  # It is no image, either.
    "68 nul": (form("b", [FILE.format("a\0b")]), 422),
    "69 both lengths": (
        post("/predict", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        400,
    ),
    "70 host": (GET.format("/jobs", "evil.example", "").encode(), 403),
    # The host of an absolute target says nothing: the guard has judged the header, and only a
    # program, never a page in a browser, can send both.
    "70 target": (GET.format("http://evil.example/jobs", "localhost", "").encode(), 403),
    "72 header": (GET.format("/jobs", "localhost", "X-A: " + "a" * 50_000 + "\r\n").encode(), 400),
    "69 lying length": (
        post("/finetune", JSON + "Content-Length: 5\r\n", '{"architecture": "lenet"}'),
        400,
    ),
    "69 no length": (
        post("/finetune", JSON + "Content-Length: -5\r\n", "{}"),
        400,
    ),
    "72 utf-8": (
        GET.format("/jobs/", "localhost", "").encode().replace(b"jobs/", b"jobs/\xff\xfe"),
        400,
    ),
    "72 method": (b"BREW /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
}
LOST = 499  # What `raw` says of an answer that was lost.
