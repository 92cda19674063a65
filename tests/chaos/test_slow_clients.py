"""T22: five hundred clients that stand still in every way, and twenty that must not notice."""

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.app.api import png, zipped
from tests.app.apiprocess import start
from tests.chaos.conftest import Tell
from tests.invariants import broken

pytestmark = [pytest.mark.chaos, pytest.mark.nightly]
STALLED = int(os.environ.get("CHAOS_STALLED", "500"))
HEALTHY = 20
SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
LONGEST = 35.0
P99 = 0.5
ADMIN = "an-admin-key-of-this-test-only"
HEAD = "{method} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
FORM = (
    "Content-Length: 9000000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    '--b\r\nContent-Disposition: form-data; name="file"; filename="x.zip"\r\n\r\nPK'
)
BEARER = {"Authorization": f"Bearer {ADMIN}"}


def ways(predict_key: str) -> list[tuple[str, str]]:
    """What each kind of client says before it stands still, and what after an answer."""
    post, look = HEAD.format(method="POST {}"), HEAD.format(method="GET /healthz")
    bearer = "Authorization: Bearer {}\r\n"
    return [
        (post.format("/datasets") + "Content-Length: 10000000000\r\n\r\n", "a"),
        (look + "\r\n", "\r\n"),
        (look + "\r\n", "GET"),
        (post.format("/datasets") + bearer.format(ADMIN) + FORM, ""),
        (post.format("/predict") + bearer.format(predict_key) + FORM, ""),
        (post.format("/datasets") + "Content-Le", ""),
    ]


def stall(port: int, said: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=LONGEST)
    connection.sendall(said.encode())
    return connection


def healthy(
    url: str, end: float, first: list[float], later: list[float], failed: list[object]
) -> None:
    """Look, predict and upload until the end; note how long each took, the first one apart.

    It comes while the stalled connections are still being accepted, and waits for its turn.
    """
    archive, taken = zipped(), first
    image = {"Content-Type": "image/png"}
    with httpx2.Client(base_url=url, timeout=60, headers=BEARER) as client:
        asks: tuple[tuple[Callable[[], httpx2.Response], str], ...] = (
            (lambda: client.get("/jobs?limit=1"), '"data"'),
            # There is no predictor; the api has to get as far as to find that out.
            (lambda: client.post("/predict", content=png(), headers=image), "predictor_unavail"),
            (lambda: client.post("/datasets", files={"file": ("x.zip", archive)}), '"queued"'),
        )
        while time.monotonic() < end:
            for ask, wanted in asks:
                begun = time.monotonic()
                try:
                    answer = ask()
                    if wanted not in answer.text:
                        failed.append(answer.text)
                except httpx2.TransportError as error:
                    failed.append(error)
                taken.append(time.monotonic() - begun)
                taken = later
                time.sleep(0.2)


def test_t22_stalled_clients_hold_nobody_up(
    tmp_path: Path, migrated: Path, tell: Tell, record: Callable[[str, float, float], None]
) -> None:
    many = {
        "TOPWORK_ADMIN_KEY": ADMIN,
        "TOPWORK_MAX_QUEUED_JOBS": "1000000",
        "TOPWORK_MAX_QUEUED_JOBS_PER_OWNER": "1000000",
    }
    first: list[float] = []
    later: list[float] = []
    failed: list[object] = []
    for api in start(tmp_path, migrated, **many):
        made = httpx2.post(f"{api.url}/keys", json={"scopes": ["predict"]}, headers=BEARER)
        kinds = ways(made.json()["key"])
        opened = time.monotonic()
        stalled = [stall(api.port, kinds[number % len(kinds)][0]) for number in range(STALLED)]
        for number, connection in enumerate(stalled):
            if after := kinds[number % len(kinds)][1]:
                assert connection.recv(65536).startswith(b"HTTP/1.1 ")
                connection.sendall(after.encode())
        last = time.monotonic()
        given = (api.url, last + SECONDS, first, later, failed)
        threads = [threading.Thread(target=healthy, args=given) for _ in range(HEALTHY)]
        for thread in threads:
            thread.start()
        for connection in stalled:
            connection.settimeout(max(0.1, last + LONGEST - time.monotonic()))
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass  # Cut off, as it should be.
            except TimeoutError:
                failed.append(f"still open: {kinds[stalled.index(connection) % len(kinds)]}")
            connection.close()
        closed = time.monotonic() - opened
        for thread in threads:
            thread.join()
        assert not broken(api.resources)
    taken = sorted(first + later)
    p99 = taken[int(len(taken) * 0.99)]
    tell(
        f"T22 {STALLED} stalled, all closed after {closed:.1f} s; {len(taken)} healthy"
        f" requests, p50 {taken[len(taken) // 2] * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms,"
        f" {len(failed)} failures; the slowest first one {max(first) * 1000:.0f} ms, later ones p99"
        f" {sorted(later)[int(len(later) * 0.99)] * 1000:.0f} ms"
    )
    assert not failed, failed[:3]
    record("T22 p99 of healthy requests", p99, P99)
