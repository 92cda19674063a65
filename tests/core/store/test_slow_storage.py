"""Objects that come slowly from S3: a thin line is waited for, a dead one is asked again."""

import http.server
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from core.store import object_store
from core.store.object_store import Storage

PIECE, PIECES = b"x" * 1000, 8
SIZE = len(PIECE) * PIECES
SILENCE = 0.6


class Slow(http.server.ThreadingHTTPServer):
    """Serves one object, waiting before each piece as it is told, and notes what was asked for."""

    daemon_threads = True

    def __init__(self, wait: Callable[[int, threading.Event], object]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.wait, self.over = wait, threading.Event()
        self.asked: list[int] = []


class Answer(http.server.BaseHTTPRequestHandler):
    """One request for the object, or for its rest."""

    protocol_version = "HTTP/1.1"
    server: Slow

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-").partition("=")[2].partition("-")[0])
        self.server.asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
        self.send_header("Content-Length", str(SIZE - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{SIZE - 1}/{SIZE}")
        self.end_headers()
        for _ in range(start // len(PIECE), PIECES):
            self.server.wait(len(self.server.asked), self.server.over)
            try:
                self.wfile.write(PIECE)
            except OSError:  # It was given up.
                return


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Slow]]:
    monkeypatch.setattr(object_store, "SILENCE", timedelta(seconds=SILENCE))
    running: list[Slow] = []

    def started(wait: Callable[[int, threading.Event], object]) -> Slow:
        server = Slow(wait)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        return server

    yield started
    for server in running:
        server.over.set()
        server.shutdown()
        server.server_close()


def test_an_object_may_take_longer_than_a_silence(
    serve: Callable[..., Slow], tmp_path: Path
) -> None:
    server = serve(lambda _request, over: over.wait(SILENCE / 4))
    Storage("s3://bucket/prefix").fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == PIECE * PIECES
    assert server.asked == [0]


@pytest.mark.chaos
@pytest.mark.nightly
def test_a_request_is_not_cut_off_after_half_a_minute(
    serve: Callable[..., Slow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "SILENCE", timedelta(seconds=30))
    server = serve(lambda _request, over: over.wait(4.5))
    Storage("s3://bucket/prefix").fetch("a", tmp_path / "a")
    assert server.asked == [0]


@pytest.mark.timeout(20)  # The library's own limit would ask again after 30 s.
def test_what_falls_silent_is_asked_for_the_rest(
    serve: Callable[..., Slow], tmp_path: Path
) -> None:
    sent = iter(range(SIZE))

    def wait(request: int, over: threading.Event) -> None:
        if request == 1 and next(sent) == PIECES // 2:
            over.wait(60)

    server = serve(wait)
    Storage("s3://bucket/prefix").fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == PIECE * PIECES
    assert server.asked == [0, SIZE // 2]
