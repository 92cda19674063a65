"""The service as a process of its own: streams, slow bodies, its end."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.asgi.multipart import BATCH
from core.domain import jobs, leases
from core.system.settings import Settings
from tests.app.apiclient import config, zipped
from tests.app.apiprocess import Api, start
from tests.claims import claim_best
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Api]:
    """One api for the tests that leave it running."""
    yield from start(tmp_path_factory.mktemp("api"), migrated, TOPWORK_SWEEP_SECONDS="0.2")


@pytest.fixture
def own_api(tmp_path: Path, migrated: Path) -> Iterator[Api]:
    """An api of the test's own, to be ended by it."""
    yield from start(tmp_path, migrated)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://127.0.0.1/jobs", "evil.example", 200),
        ("http://evil.example/jobs", "127.0.0.1", 403),
        ("HTTPS://evil.example:80/jobs", "127.0.0.1", 403),
        ("http://127.0.0.1@evil.example/jobs", "127.0.0.1", 403),
        ("http://evil.example?a=http://127.0.0.1/jobs", "127.0.0.1", 200),
        ("http://127.0.0.1", "evil.example", 200),
        ("http://[::1]:8000/jobs", "evil.example", 200),
        ("/jobs?after=http://evil.example/", "127.0.0.1", 200),
    ],
)
def test_an_absolute_target_names_the_host(api: Api, target: str, host: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as wire:
        wire.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert wire.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


class Listener(threading.Thread):
    """Collects the events of a stream until it ends."""

    def __init__(self, url: str, **headers: str) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self._request = (url, {"Accept": "text/event-stream", **headers})
        self.start()

    def run(self) -> None:
        url, headers = self._request
        try:
            with httpx2.stream("GET", url, headers=headers, timeout=30) as response:
                for event in httpx2.EventSource(response):
                    if event.data:
                        self.events.append(json.loads(event.data))
        except Exception as error:  # noqa: BLE001 - the test looks at it.
            self.failure = error

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]


def test_events_arrive_as_they_happen(api: Api) -> None:
    api.work.submit(priority="high")
    job = api.work.claim()
    listener = Listener(f"{api.url}/jobs/{job[0]}/events")
    wait_for(lambda: "state" in listener.kinds())
    api.work.do(leases.record, job, [{"kind": "progress", "progress": 0.25, "step": 1, "eta": 9}])
    wait_for(lambda: {"progress": 0.25, "eta": 9, "phase": "preparing"}
             in [event["data"] for event in listener.events])  # fmt: skip
    api.work.do(leases.record, job, [{"kind": "epoch", "epoch": 1}])
    wait_for(lambda: "epoch" in listener.kinds())
    assert listener.is_alive()
    api.work.do(leases.succeed, job, {})
    listener.join(10)
    assert not listener.is_alive()
    assert listener.failure is None
    kept = [event for event in listener.events if event["kind"] != "progress"]
    assert [event["seq"] for event in kept] == [1, 2, 3, 4]
    assert kept[-1]["data"]["state"] == "succeeded"
    again = Listener(f"{api.url}/jobs/{job[0]}/events", **{"Last-Event-ID": "3"})
    again.join(10)
    assert [event["seq"] for event in again.events] == [4]


def test_many_streams_share_one_look(api: Api) -> None:
    api.work.submit(priority="high")
    job = api.work.claim()
    listeners = [Listener(f"{api.url}/jobs/{job[0]}/events") for _ in range(60)]
    wait_for(lambda: all(listener.events for listener in listeners))
    assert httpx2.get(f"{api.url}/jobs/{job[0]}").json()["state"] == "running"
    api.work.do(leases.succeed, job, {})
    for listener in listeners:
        listener.join(20)
        assert listener.events[-1]["data"].get("state") == "succeeded"


def test_a_lost_worker_is_noticed(api: Api) -> None:
    api.work.submit(priority="high")
    with api.resources.database.write() as session:
        job = claim_best(session, "gone", 0.0)
        assert job is not None
    wait_for(lambda: httpx2.get(f"{api.url}/jobs/{job.id}").json()["state"] == "queued")
    with api.resources.database.write() as session:
        jobs.cancel(session, job.id)


def test_many_writers_wait_for_each_other_not_for_threads(api: Api) -> None:
    ids = [api.work.submit() for _ in range(150)]
    codes: list[int] = []

    def cancel(job_id: str) -> None:
        codes.append(httpx2.post(f"{api.url}/jobs/{job_id}/cancel", timeout=60).status_code)

    threads = [threading.Thread(target=cancel, args=(job_id,)) for job_id in ids]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 150
    assert time.monotonic() - begun < 30


def raw(api: Api) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", api.port))
    connection.settimeout(20)
    return connection


FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.zip"\r\n\r\nPK\x03\x04'


@pytest.mark.parametrize("announced", [True, False])
def test_a_piece_that_breaks_off_counts_unless_a_checksum_was_announced(
    api: Api,
    announced: bool,  # noqa: FBT001
) -> None:
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "9000000"}
    path = httpx2.post(f"{api.url}/uploads", headers=tus).headers["location"]
    file = api.data / "uploads" / path.rpartition("/")[2]
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        "Content-Type: application/offset+octet-stream\r\nContent-Length: 9000000\r\n"
    )
    checksum = "Upload-Checksum: sha256 AAAA\r\n" if announced else ""
    with raw(api) as connection:
        connection.sendall(f"{head}{checksum}\r\n".encode() + b"x" * 2_000_000)
        # What does not fill a batch is written when the connection ends.
        arrived = 1 if announced else 2_000_000 - BATCH
        wait_for(lambda: file.stat().st_size >= arrived)

    def offset() -> int | None:
        answer = httpx2.head(f"{api.url}{path}")
        return int(answer.headers["upload-offset"]) if answer.is_success else None

    kept = wait_for(lambda: {offset()} - {None})  # Before the end of the request it is locked.
    assert kept == {0} if announced else kept <= set(range(arrived, 2_000_001))
    assert "Traceback" not in api.log.read_text()


def test_an_upload_that_breaks_off_leaves_nothing(api: Api) -> None:
    uploads = lambda: list((api.data / "tmp").glob("upload-*"))  # noqa: E731
    with raw(api) as connection:
        head = b"POST /datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
        connection.sendall(head + FORM + b"\r\n" + PART + b"x" * 2_000_000)
        wait_for(uploads)
    wait_for(lambda: not uploads())
    assert api.resources.storage.list("uploads") == []
    assert httpx2.get(f"{api.url}/healthz").is_success
    assert "Traceback" not in api.log.read_text()


@pytest.mark.parametrize("announced", [True, False])
def test_a_refusal_before_the_last_byte_is_heard(api: Api, announced: bool) -> None:  # noqa: FBT001
    """A wrong config is answered while the files are still being sent."""
    field = b'--b\r\nContent-Disposition: form-data; name="config"\r\n\r\n{"architecture": "x"}\r\n'

    def body() -> Iterator[bytes]:
        yield field + PART
        for _ in range(200):
            yield b"x" * 100_000
        yield b"\r\n--b--\r\n"

    size = sum(map(len, body()))
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    if announced:
        headers["Content-Length"] = str(size)
    answer = httpx2.post(f"{api.url}/finetune", content=body(), headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (422, "architecture_unknown")


def test_odd_http_is_refused_politely(api: Api) -> None:
    requests = [
        (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Length: 3\r\n\r\nabc"
        ),
        b"GET /jobs HTTP/1.1\r\nHost: evil\r\n\r\n",
        b"GET http://evil/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /jobs/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    for request in requests:
        with raw(api) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            status = connection.recv(65536).partition(b"\r\n")[0].split(b" ")
        assert len(status) < 2 or status[1].startswith((b"2", b"4")), request
    assert httpx2.get(f"{api.url}/healthz").is_success


def test_the_end_is_quick_with_an_open_stream_and_an_upload(own_api: Api) -> None:
    own_api.work.submit()
    job = own_api.work.claim()
    listener = Listener(f"{own_api.url}/jobs/{job[0]}/events")
    wait_for(lambda: listener.events)
    assert own_api.stop() < 3
    assert own_api.process.returncode == 0
    listener.join(5)
    assert listener.failure is None
    assert "Traceback" not in own_api.log.read_text()
    assert "ERROR" not in own_api.log.read_text().upper().replace('"ERROR": NULL', "")


@pytest.fixture
def hasty_api(tmp_path: Path, migrated: Path) -> Iterator[Api]:
    """An api that gives requests under way one second."""
    yield from start(tmp_path, migrated, "--grace", "1")


def test_what_outlives_the_grace_is_told_to_come_back(hasty_api: Api) -> None:
    with raw(hasty_api) as connection:
        head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")  # It waits for the body by now.
        hasty_api.stop()
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert b"retry-after: " in head.lower()
    assert json.loads(body)["code"] == "unavailable"
    assert hasty_api.process.returncode == 0


def test_interrupt_ends_it_too(own_api: Api) -> None:
    answer = httpx2.post(
        f"{own_api.url}/finetune", files={"file": ("a.zip", zipped())}, data=config(), timeout=30
    )
    assert answer.status_code == 202
    assert own_api.stop(signal.SIGINT) < 3
    assert own_api.process.returncode == 0
    assert "Traceback" not in own_api.log.read_text()


def test_a_prediction_is_given_up_with_its_client(api: Api) -> None:
    place = api.data / "run" / "predictor.sock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as predictor:
        predictor.bind(str(place))
        predictor.listen()
        predictor.settimeout(20)
        head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        with raw(api) as client:
            client.sendall(f"{head}Content-Length: 4\r\n\r\nabcd".encode())
            asked, _ = predictor.accept()
            with asked:
                asked.settimeout(20)
                got = b""
                while not got.endswith(b"abcd"):
                    got += asked.recv(65536)
                client.close()
                assert asked.recv(65536) == b""
    place.unlink()


def predicting(api: Api, length: int, data: bytes = b"") -> socket.socket:
    """A prediction whose body is being read and stands still behind `data`."""
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
    wire = raw(api)
    wire.sendall(f"{head}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n".encode())
    assert wire.recv(100).startswith(b"HTTP/1.1 100 ")
    wire.sendall(data)
    return wire


def test_stalled_predictions_hold_no_place(api: Api) -> None:
    with ExitStack() as stack:
        for _ in range(Settings().predict_queue):
            stack.enter_context(predicting(api, 4))
        image = {"Content-Type": "image/png"}
        answer = httpx2.post(f"{api.url}/predict", content=b"abcd", headers=image, timeout=30)
    assert answer.json()["code"] == "predictor_unavailable"


def test_the_bytes_of_stalled_predictions_are_bounded(tmp_path: Path, migrated: Path) -> None:
    few: dict[str, Any] = {
        "TOPWORK_MAX_PREDICT_BYTES": "1000000",
        "TOPWORK_PREDICT_MEMORY_BYTES": "1",
    }
    image = {"Content-Type": "image/png"}
    for api in start(tmp_path, migrated, **few):

        def ask(api: Api = api) -> httpx2.Response:
            content = b"a" * 900_000
            return httpx2.post(f"{api.url}/predict", content=content, headers=image, timeout=30)

        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(predicting(api, 1_000_000, b"a" * 999_000))
            refused = wait_for(lambda: (given := ask()).status_code == 429 and given)
            assert refused.json()["code"] == "too_many_requests"
            assert int(refused.headers["Retry-After"]) > 0
        wait_for(lambda: ask().json()["code"] == "predictor_unavailable")


def test_the_streams_of_an_owner_are_bounded(tmp_path: Path, migrated: Path) -> None:
    for api in start(tmp_path, migrated, TOPWORK_MAX_STREAMS_PER_OWNER="2"):
        url = f"{api.url}/jobs/{api.work.submit()}/events"

        def follow(url: str = url) -> AbstractContextManager[httpx2.Response]:
            headers = {"Accept": "text/event-stream"}
            return httpx2.stream("GET", url, headers=headers, timeout=30)

        def again(follow: Callable[[], Any] = follow) -> bool:
            with follow() as stream:
                return bool(stream.status_code == 200)

        with follow() as first, follow() as second:
            assert (first.status_code, second.status_code) == (200, 200)
            with follow() as third:
                assert third.status_code == 429
                assert json.loads(third.read())["code"] == "too_many_requests"
                assert int(third.headers["Retry-After"]) > 0
        wait_for(again)
