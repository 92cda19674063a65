"""T22: five hundred uploads that stand still, and twenty clients that must not notice."""

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.app.api import zipped
from tests.app.apiprocess import start
from tests.chaos.conftest import Tell

pytestmark = [pytest.mark.chaos, pytest.mark.nightly]
STALLED = int(os.environ.get("CHAOS_STALLED", "500"))
HEALTHY = 20
SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
LONGEST = 35.0
P99 = 0.5
BODY = (
    b"POST /datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.zip"\r\n\r\nPK\x03\x04'
)
HALF = b"POST /datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le"


def healthy(
    url: str, end: float, first: list[float], later: list[float], failed: list[object]
) -> None:
    """Look and upload until the end; note how long each request took, the first one apart.

    It comes while the stalled connections are still being accepted, and waits for its turn.
    """
    archive, taken = zipped(), first
    with httpx2.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < end:
            for uploads in (False, False, True):
                begun = time.monotonic()
                try:
                    answer = (
                        client.post("/datasets", files={"file": ("x.zip", archive)})
                        if uploads
                        else client.get("/jobs?limit=1")
                    )
                    if answer.status_code not in (200, 202):
                        failed.append(answer.text)
                except httpx2.TransportError as error:
                    failed.append(error)
                taken.append(time.monotonic() - begun)
                taken = later
                time.sleep(0.2)


def test_t22_stalled_uploads_hold_nobody_up(
    tmp_path: Path, migrated: Path, tell: Tell, record: Callable[[str, float, float], None]
) -> None:
    many = {"TOPWORK_MAX_QUEUED_JOBS": "1000000", "TOPWORK_MAX_QUEUED_JOBS_PER_OWNER": "1000000"}
    first: list[float] = []
    later: list[float] = []
    failed: list[object] = []
    for api in start(tmp_path, migrated, **many):
        stalled = []
        opened = time.monotonic()
        for number in range(STALLED):
            connection = socket.create_connection(("127.0.0.1", api.port))
            connection.sendall(HALF if number % 2 else BODY)
            stalled.append(connection)
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
                failed.append("a stalled connection is still open")
            connection.close()
        closed = time.monotonic() - opened
        for thread in threads:
            thread.join()
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
