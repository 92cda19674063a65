import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models.weights.download import download
from topwork.errors import IntegrityError, WeightsUnavailable

BODY = bytes(range(256)) * 9000
PREFIX = hashlib.sha256(BODY).hexdigest()[:8]


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real HTTP server on loopback that answers every GET by calling `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def whole(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY)


def test_the_file_arrives_whole_and_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with server(whole) as url:
        download(
            f"{url}/net-{PREFIX}.pth",
            tmp_path / "net",
            hash_prefix=PREFIX,
            timeout=10,
            progress=lambda done, total: told.append((done, total)),
        )
    assert (tmp_path / "net").read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_another_hash_is_refused(tmp_path: Path) -> None:
    with server(whole) as url, pytest.raises(IntegrityError, match="does not begin with 00000000"):
        download(f"{url}/net", tmp_path / "net", hash_prefix="0" * 8, timeout=10)


def test_a_missing_file_is_told_with_its_address(tmp_path: Path) -> None:
    with (
        server(lambda request: request.send_error(404)) as url,
        pytest.raises(WeightsUnavailable, match=r"/net could not be downloaded: .*404"),
    ):
        download(f"{url}/net", tmp_path / "net", hash_prefix=PREFIX, timeout=10)


def test_a_connection_that_breaks_off_is_told(tmp_path: Path) -> None:
    def half(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        request.wfile.write(BODY[:1000])

    with server(half) as url, pytest.raises(WeightsUnavailable, match="could not be downloaded"):
        download(f"{url}/net", tmp_path / "net", hash_prefix=PREFIX, timeout=10)


def test_a_body_that_stalls_is_given_up(tmp_path: Path) -> None:
    over = threading.Event()

    def stall(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        request.wfile.write(BODY[:1000])
        request.wfile.flush()
        over.wait(60)

    began = time.monotonic()
    with server(stall) as url:
        with pytest.raises(WeightsUnavailable, match="could not be downloaded"):
            download(f"{url}/net", tmp_path / "net", hash_prefix=PREFIX, timeout=0.3)
        over.set()
    assert time.monotonic() - began < 20


def test_a_host_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        # Connections are taken into the queue of the kernel, and nobody ever reads them.
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net"
        began = time.monotonic()
        with pytest.raises(WeightsUnavailable, match=r"/net could not be downloaded"):
            download(url, tmp_path / "net", hash_prefix=PREFIX, timeout=0.3)
        assert time.monotonic() - began < 20


def test_a_name_lookup_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        over.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with pytest.raises(WeightsUnavailable, match=r"no answer within 0\.3 s"):
        download("http://nowhere.test/net", tmp_path / "net", hash_prefix=PREFIX, timeout=0.3)
    assert time.monotonic() - began < 20
    over.set()
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join(20)


def test_a_closed_port_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/net"
        with pytest.raises(WeightsUnavailable, match="could not be downloaded"):
            download(url, tmp_path / "net", hash_prefix=PREFIX, timeout=30)
