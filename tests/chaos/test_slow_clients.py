"""T22: five hundred clients that stand still in every way, and twenty that must not notice."""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.app.apiclient import png, zipped
from tests.app.apiprocess import Api, start
from tests.chaos.conftest import Tell
from tests.invariants import broken
from tests.waiting import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.nightly]
STALLED = int(os.environ.get("CHAOS_STALLED", "500"))
HEALTHY = 20
FORMS = 8  # Of 20 that stand still.
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
TUS = {"Tus-Resumable": "1.0.0"}
LENGTH = 100_000
CAME = b"PK is all that comes"
PIECE = (
    HEAD.format(method="PATCH /uploads/{upload}") + f"Authorization: Bearer {ADMIN}\r\n"
    f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Length: {LENGTH}\r\n"
    f"Content-Type: application/offset+octet-stream\r\n\r\n{CAME.decode()}"
)


@dataclass(frozen=True)
class Way:
    """What a client says before it stands still, after an answer, and how many of 20 do so."""

    said: str
    then: str = ""
    share: int = 1


def ways(predict_key: str) -> list[Way]:
    """Return every way to stand still; three quarters are uploads that were let in."""
    post, look = HEAD.format(method="POST {}"), HEAD.format(method="GET /healthz")
    bearer = "Authorization: Bearer {}\r\n"
    return [
        Way(post.format("/datasets") + "Content-Length: 10000000000\r\n\r\n", "a"),
        Way(look + "\r\n", "\r\n"),
        Way(look + "\r\n", "GET"),
        Way(post.format("/datasets") + bearer.format(ADMIN) + FORM, share=FORMS),
        Way(PIECE, share=7),
        Way(post.format("/predict") + bearer.format(predict_key) + FORM),
        Way(post.format("/datasets") + "Content-Le"),
    ]


def crowd(ways: list[Way], url: str) -> list[tuple[Way, str]]:
    """Return STALLED clients: each way by its share, and the upload that it alone appends to."""
    dealt = itertools.cycle([way for way in ways for _ in range(way.share)])
    return [
        (way, announced(url) if way.said == PIECE else "")
        for way in itertools.islice(dealt, STALLED)
    ]


def announced(url: str) -> str:
    """Return the id of a new resumable upload."""
    headers = {**BEARER, **TUS, "Upload-Length": str(LENGTH)}
    return str(httpx2.post(f"{url}/uploads", headers=headers).json()["id"])


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


def under_way(api: Api) -> int:
    """Return how many forms are being received."""
    return len(list((api.data / "tmp").glob("*")))


def reached(api: Api, forms: int) -> int:
    """Wait until so many forms are being received at once; return how many there are."""
    return wait_for(lambda: (now := under_way(api)) >= forms and now, LONGEST)


def nothing_under_way(api: Api) -> None:
    """Check that nothing stays of the forms whose senders were cut off."""
    wait_for(lambda: not under_way(api))


def look_at_pieces(api: Api, uploads: list[str]) -> None:
    """Check that nobody holds the uploads any more, and that what came of each counts."""
    with httpx2.Client(base_url=api.url, headers=BEARER | TUS, timeout=60) as client:
        for upload in uploads:
            answer = client.get(f"/uploads/{upload}")
            assert (answer.status_code, answer.json()["offset"]) == (200, len(CAME)), answer.text
    assert sorted(path.name for path in (api.data / "uploads").iterdir()) == sorted(uploads)


def test_t22_stalled_clients_hold_nobody_up(
    tmp_path: Path, migrated: Path, tell: Tell, record: Callable[[str, float, float], None]
) -> None:
    many: dict[str, Any] = {
        "TOPWORK_ADMIN_KEY": ADMIN,
        "TOPWORK_MAX_QUEUED_JOBS": "1000000",
        "TOPWORK_MAX_QUEUED_JOBS_PER_OWNER": "1000000",
        "TOPWORK_MAX_OPEN_UPLOADS": str(STALLED),
    }
    first: list[float] = []
    later: list[float] = []
    failed: list[object] = []
    for api in start(tmp_path, migrated, **many):
        made = httpx2.post(f"{api.url}/keys", json={"scopes": ["predict"]}, headers=BEARER)
        clients = crowd(ways(made.json()["key"]), api.url)
        uploads = [upload for _, upload in clients if upload]
        forms = sum(way.share == FORMS for way, _ in clients)
        opened = time.monotonic()
        stalled = [stall(api.port, way.said.replace("{upload}", upload)) for way, upload in clients]
        for (way, _), connection in zip(clients, stalled, strict=True):
            if way.then:
                assert connection.recv(65536).startswith(b"HTTP/1.1 ")
                connection.sendall(way.then.encode())
        last = time.monotonic()
        given = (api.url, last + SECONDS, first, later, failed)
        threads = [threading.Thread(target=healthy, args=given) for _ in range(HEALTHY)]
        for thread in threads:
            thread.start()
        receiving = reached(api, forms)
        for (way, _), connection in zip(clients, stalled, strict=True):
            connection.settimeout(max(0.1, last + LONGEST - time.monotonic()))
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass  # Cut off, as it should be.
            except TimeoutError:
                failed.append(f"still open: {way}")
            connection.close()
        closed = time.monotonic() - opened
        for thread in threads:
            thread.join()
        nothing_under_way(api)
        look_at_pieces(api, uploads)
        assert not broken(api.resources)
    taken = sorted(first + later)
    p99 = taken[int(len(taken) * 0.99)]
    tell(
        f"T22 {STALLED} stalled, {forms} of them forms of which {receiving} came at once and"
        f" {len(uploads)} pieces, all closed after {closed:.1f} s; {len(taken)} healthy"
        f" requests, p50 {taken[len(taken) // 2] * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms,"
        f" {len(failed)} failures; the slowest first one {max(first) * 1000:.0f} ms, later ones p99"
        f" {sorted(later)[int(len(later) * 0.99)] * 1000:.0f} ms"
    )
    assert not failed, failed[:3]
    record("T22 p99 of healthy requests", p99, P99)
