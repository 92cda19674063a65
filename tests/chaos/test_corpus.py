"""T18: the nasty corpus against a running service, each case by every way in that applies."""

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.app.processes import descendants
from tests.archives import Entry, gzipped, honest, raw_zip, tar_of
from tests.chaos.conftest import Tell
from tests.core.ingested import GOOD
from tests.corpus import HOPELESS, IMAGES, TARRED, ZIPPED
from tests.e2e.conftest import Service, png, running, zip_of

pytestmark = pytest.mark.chaos
RISE = 300 * 1024  # KiB
GOAL_SECONDS, MOST_SECONDS = 2.0, 20.0  # For one archive or image.
NDJSON = {"Accept": "application/x-ndjson"}


class Peak:
    """The resident memory of a service's processes: the most of each since it was made.

    Children that are born meanwhile, those of ingestions, count from nothing: they are looked at
    twenty times a second, and the kernel keeps the high-water mark between two looks.
    """

    def __init__(self, service: Service) -> None:
        self._root = service.process.pid
        self.before = {pid: kibibytes(pid, "VmRSS") for pid in self._pids()}
        self.most = dict(self.before)
        for pid in self.before:  # Restarts the kernel's high-water mark.
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _pids(self) -> list[int]:
        return [self._root, *descendants(self._root)]

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._look()

    def _look(self) -> None:
        for pid in self._pids():
            self.most[pid] = max(self.most.get(pid, 0), kibibytes(pid, "VmHWM"))

    def rise(self) -> int:
        """Return by how many KiB the process that grew most grew at its worst moment."""
        self._done.set()
        self._thread.join()
        self._look()
        return max(most - self.before.get(pid, 0) for pid, most in self.most.items())


def kibibytes(pid: int, field: str) -> int:
    """Return a figure of a process, 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def outside(data: Path) -> set[Path]:
    """Return what lies beside the data folder and at the root, and what bears a hostile name."""
    beside = {path for path in data.parent.rglob("*") if data not in path.parents}
    root = {path for path in Path("/").iterdir() if path.is_file()}
    return beside | root | {path for name in ("x", "x.png") for path in data.rglob(name)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("corpus") / "data") as started:
        before = outside(started.data_dir)
        yield started
        assert outside(started.data_dir) == before


def pets() -> bytes:
    """Two easy classes."""
    return zip_of(
        {
            f"{name}/{n}.png": png(value, n)
            for value, name in enumerate(("nw", "ne"))
            for n in range(8)
        }
    )


def by_form(service: Service, data: bytes) -> httpx2.Response:
    return service.http.post("/datasets", files={"file": ("images.zip", data)})


def in_pieces(service: Service, data: bytes) -> httpx2.Response:
    """Send by tus, then name the upload."""
    tus = {"Tus-Resumable": "1.0.0"}
    made = service.http.post("/uploads", headers={**tus, "Upload-Length": str(len(data))})
    assert made.status_code == 201, made.text
    piece = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    if data:
        sent = service.http.patch(made.headers["location"], content=data, headers=piece)
        assert sent.status_code == 204, sent.text
    upload = made.headers["location"].rpartition("/")[2]
    return service.http.post("/datasets", json={"upload": upload})


def report(service: Service, job: dict[str, Any]) -> list[dict[str, Any]]:
    path = f"/datasets/{job['dataset'].partition('@')[0]}/versions/1/report"
    return [json.loads(line) for line in service.http.get(path, headers=NDJSON).text.splitlines()]


WAYS: dict[str, Callable[[Service, bytes], httpx2.Response]] = {
    "form": by_form,
    "pieces": in_pieces,
}


@pytest.mark.parametrize("way", WAYS)
def test_good_files_of_a_hostile_archive_are_kept(
    service: Service, way: str, tell: Tell, record: Callable[[str, float, float], None]
) -> None:
    cases = {
        f"zip {name}": (raw_zip([*honest(GOOD), *bad]), codes)
        for name, (bad, codes) in ZIPPED.items()
    }
    cases |= {
        f"tar {name}": (gzipped(tar_of({**GOOD, **bad})), codes)
        for name, (bad, codes) in TARRED.items()
    }
    cases["zip 28 zip64"] = (raw_zip(honest(GOOD), zip64=True), {})
    peak, seconds = Peak(service), []
    for name, (data, codes) in cases.items():
        answer = WAYS[way](service, data)
        assert answer.status_code == 202, (name, answer.text)
        job = service.ended(answer.json()["id"])
        assert job["state"] == "succeeded", (name, job)
        said = {line["path"]: line["code"] for line in report(service, job)}
        said = {path: code for path, code in said.items() if code != "nested_folders"}
        assert said == codes, name
        assert job["result"]["images"] >= len(GOOD) - 1, name
        seconds.append(took(job))
    assert peak.rise() < RISE
    tell(
        f"T18 archives by {way}: {len(cases)} cases as listed, memory +{peak.rise() // 1024} MiB, "
        f"jobs at most {max(seconds):.1f} s"
    )
    record(f"T18 archives by {way}", max(seconds), GOAL_SECONDS)
    assert max(seconds) <= MOST_SECONDS


@pytest.mark.parametrize("way", WAYS)
def test_a_hopeless_archive_is_refused_by_its_code(service: Service, way: str, tell: Tell) -> None:
    many = [Entry(b"cat/%d.png" % number, method=0) for number in range(200_001)]
    cases = [*HOPELESS, (raw_zip(many, zip64=True), "archive_too_large")]  # That is number 20.
    for number, (data, code) in enumerate(cases):
        answer = WAYS[way](service, data)
        problem = answer.json()
        if answer.status_code == 202:
            job = service.ended(problem["id"])
            assert job["state"] == "failed", (number, job)
            problem = job["error"]
        else:
            assert 400 <= answer.status_code < 500, (number, answer.text)
        assert problem["code"] == code, number
        assert problem["hint"], number
    tell(f"T18 hopeless archives by {way}: {len(cases)} refused by code with a hint")


def test_images_by_archive_and_by_form(service: Service, tell: Tell) -> None:
    named = {f"cat/{name}": data for name, (data, _) in IMAGES.items()}
    bad = {f"cat/{name}" for name, (_, fine) in IMAGES.items() if not fine}
    peak = Peak(service)
    form = [("file", (name, data)) for name, data in {**GOOD, **named}.items()]
    for answer in (
        by_form(service, raw_zip(honest({**GOOD, **named}))),
        service.http.post("/datasets", files=form),
    ):
        assert answer.status_code == 202, answer.text
        job = service.ended(answer.json()["id"])
        assert job["state"] == "succeeded", job
        lines = report(service, job)
        out = {line["path"] for line in lines if line["status"] in {"rejected", "skipped"}}
        assert out == bad
        assert job["result"]["images"] == len(GOOD) + len(named) - len(bad)
    assert peak.rise() < RISE
    tell(f"T18 images by archive and form: {len(named)} as listed, +{peak.rise() // 1024} MiB")


def test_images_by_prediction(
    service: Service, tell: Tell, record: Callable[[str, float, float], None]
) -> None:
    job = service.finetune(
        pets(), name="corpus", architecture="lenet", weights="none", hyperparameters={"epochs": 1}
    )
    assert service.ended(job)["state"] == "succeeded"
    service.predict(("good.png", GOOD["cat/0.png"]), model="corpus")
    peak, slowest = Peak(service), 0.0
    for name, (data, fine) in IMAGES.items():
        began = time.monotonic()
        answer = service.predict((name, data), model="corpus")
        slowest = max(slowest, time.monotonic() - began)
        assert answer.status_code == (200 if fine else 422), (name, answer.text)
        if not fine:
            assert answer.json()["errors"][0]["code"].startswith("image_"), (name, answer.text)
    assert peak.rise() < RISE
    tell(
        f"T18 images by predict: {len(IMAGES)} as listed, +{peak.rise() // 1024} MiB, "
        f"at most {slowest:.2f} s"
    )
    record("T18 images by predict", slowest, GOAL_SECONDS)
    assert slowest <= MOST_SECONDS


LENET = '{"architecture": "lenet", "dataset": "%s", "name": "x"%s}'
BODIES = {
    "53 nan": LENET % ("DS", ', "hyperparameters": {"learning_rate": NaN}'),
    "53 infinity": LENET % ("DS", ', "hyperparameters": {"learning_rate": Infinity}'),
    "54 1e999": LENET % ("DS", ', "hyperparameters": {"learning_rate": 1e999}'),
    "55 deep": "[" * 10_000 + "]" * 10_000,
    "56 large": '{"x": "' + "y" * 10_000_000 + '"}',
    "57 twice": LENET % ("DS", ', "name": "y"'),
    "58 surrogate": LENET % ("DS", ', "description": "\\ud800"'),
    "59 minus": LENET % ("DS", ', "hyperparameters": {"epochs": -1}'),
    "59 zero": LENET % ("DS", ', "hyperparameters": {"epochs": 0}'),
    "59 huge": LENET % ("DS", ', "hyperparameters": {"epochs": 9223372036854775808}'),
    "60 field": LENET % ("DS", ', "epoch": 3'),
    "60 network": '{"architecture": "resnet81", "dataset": "DS", "name": "x"}',
    "61 path": '{"architecture": "../../x", "dataset": "DS", "name": "x"}',
    "63 nobody's": LENET % ("ds_00000000000000000000000000", ""),
}


def test_bodies(service: Service, tell: Tell) -> None:
    dataset = by_form(service, pets()).json()["dataset"]
    for name, body in BODIES.items():
        answer = service.http.post(
            "/finetune",
            content=body.replace("DS", dataset).encode("utf-8", "surrogatepass"),
            headers={"Content-Type": "application/json"},
        )
        assert 400 <= answer.status_code < 500, (name, answer.text[:200])
        problem = answer.json()
        assert problem["code"], name
        assert problem["request_id"], name
    tell(f"T18 bodies: {len(BODIES)} refused with 4xx")


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


FIELD = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}'
FILE = 'Content-Disposition: form-data; name="file"; filename="{}"\r\n\r\nx'
GET = "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}\r\n"
REQUESTS = {
    "65 no boundary": form("", [FILE.format("a")]).replace(b"; boundary=", b""),
    "65 long boundary": form("b" * 5000, [FILE.format("a")]),
    "66 many parts": form("b", [FILE.format("a")] * 1001),
    "67 large text": form("b", [FIELD.format("model", "x" * 20_000_000)]),
    "68 path": form("b", [FILE.format("../../etc/x")]),
    "68 nul": form("b", [FILE.format("a\0b")]),
    "69 both lengths": b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "70 host": GET.format("/jobs", "evil.example", "").encode(),
    "70 target": GET.format("http://evil.example/jobs", "localhost", "").encode(),
    "72 header": GET.format("/jobs", "localhost", "X-A: " + "a" * 50_000 + "\r\n").encode(),
    "69 lying length": b"POST /finetune HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: 5\r\n\r\n" + b'{"architecture": "lenet"}',
    "69 no length": b"POST /finetune HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: -5\r\n\r\n{}",
    "72 utf-8": GET.format("/jobs/", "localhost", "").encode().replace(b"jobs/", b"jobs/\xff\xfe"),
    "72 method": b"BREW /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
}


def test_requests_no_client_would_send(service: Service, tell: Tell) -> None:
    peak = Peak(service)
    for name, request in REQUESTS.items():
        line = raw(service, request)
        status = line.split(b" ")[1:2]
        assert status, (name, line)
        # The host of an absolute target says nothing: the guard has judged the header, and only a
        # program, never a page in a browser, can send both.
        assert status[0].startswith(b"2" if name == "70 target" else b"4"), (name, line)
    ranges = {"Range": "bytes=" + ",".join(["0-"] * 10_000)}
    assert service.http.get("/openapi.json", headers=ranges).status_code < 500
    assert service.http.get("/healthz").status_code == 200
    assert peak.rise() < RISE
    tell(f"T18 requests: {len(REQUESTS) + 1} answered, none with 5xx")


def took(job: dict[str, Any]) -> float:
    """Return the seconds between a job's start and end by the service's clock."""

    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()
