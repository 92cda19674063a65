"""T18: the nasty corpus against a running service, each case by every way in that applies."""

import contextlib
import json
import os
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
from tests.chaos.peak import RISE, Peak
from tests.chaos.wire import LOST, REQUESTS, raw
from tests.core.ingested import GOOD
from tests.corpus import HOPELESS, IMAGES, TARRED, ZIPPED
from tests.e2e.conftest import Service, png, running, zip_of
from tests.waiting import wait_for

pytestmark = pytest.mark.chaos
GOAL_SECONDS, MOST_SECONDS = 2.0, 20.0  # For one archive, image, body or request.
Record = Callable[[str, float, float], None]
HOSTILE = ("x", "x.png", "y.png", "out")
NDJSON = {"Accept": "application/x-ndjson"}


def outside(service: Service) -> set[tuple[Path, int]]:
    """Return what lies beside the data folder and at the root, and what bears a hostile name.

    Such a name may have led to where a link of the corpus points, or to above where a process is.
    """
    data, pids = service.data_dir, (service.process.pid, *descendants(service.process.pid))
    beside = {path for path in data.parent.rglob("*") if data not in path.parents}
    root = {path for path in Path("/").iterdir() if path.is_file()}
    at = {Path(f"/proc/{pid}/cwd").resolve() for pid in pids} | {Path("/tmp"), Path("/etc")}  # noqa: S108 - case 7 links to it.
    near = {path for folder in at for path in (folder, *folder.parents) if path != data}
    named = {folder / name for folder in near for name in HOSTILE}
    named |= {path for name in HOSTILE for path in data.rglob(name)}
    stray = {(path, path.lstat().st_mtime_ns) for path in named if os.path.lexists(path)}
    return {(path, 0) for path in beside | root} | stray


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("corpus") / "data") as started:
        before = outside(started)
        yield started
        assert outside(started) == before


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


EACH_WAY = ["form", pytest.param("pieces", marks=pytest.mark.nightly)]


@pytest.mark.nightly
@pytest.mark.parametrize("way", EACH_WAY)
def test_good_files_of_a_hostile_archive_are_kept(
    service: Service, way: str, tell: Tell, record: Record
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
    tell(
        f"T18 archives by {way}: {len(cases)} cases as listed, {cost(peak)}, "
        f"jobs at most {max(seconds):.1f} s"
    )
    goal(record, f"T18 archives by {way}", max(seconds))


@pytest.mark.parametrize("way", EACH_WAY)
def test_a_hopeless_archive_is_refused_by_its_code(
    service: Service, way: str, tell: Tell, record: Record
) -> None:
    many = [Entry(b"cat/%d.png" % number, method=0) for number in range(200_001)]
    cases = [*HOPELESS, (raw_zip(many, zip64=True), "archive_too_large")]  # That is number 20.
    peak, slowest = Peak(service), 0.0
    for number, (data, code) in enumerate(cases):
        began = time.monotonic()
        answer = WAYS[way](service, data)
        seconds = time.monotonic() - began
        problem = answer.json()
        if answer.status_code == 202:
            job = service.ended(problem["id"])
            assert job["state"] == "failed", (number, job)
            problem, seconds = job["error"], took(job)
        else:
            assert 400 <= answer.status_code < 500, (number, answer.text)
        assert problem["code"] == code, number
        assert problem["hint"], number
        slowest = max(slowest, seconds)
    told = f"T18 hopeless archives by {way}"
    tell(f"{told}: {len(cases)} refused by code with a hint, {cost(peak)}, at most {slowest:.1f} s")
    goal(record, told, slowest)


def test_images_by_archive_and_by_form(service: Service, tell: Tell, record: Record) -> None:
    named = {f"cat/{name}": data for name, (data, _) in IMAGES.items()}
    bad = {f"cat/{name}" for name, (_, fine) in IMAGES.items() if not fine}
    peak, seconds = Peak(service), []
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
        seconds.append(took(job))
    tell(
        f"T18 images by archive and form: {len(named)} as listed, {cost(peak)}, "
        f"all of them in {max(seconds):.1f} s at most"
    )
    goal(record, "T18 images by archive and form", max(seconds))


def test_images_by_prediction(service: Service, tell: Tell, record: Record) -> None:
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
    tell(f"T18 images by predict: {len(IMAGES)} as listed, {cost(peak)}, at most {slowest:.2f} s")
    goal(record, "T18 images by predict", slowest)


LENET = '{"architecture": "lenet", "dataset": "%s", "name": "x"%s}'
JSON, LIMIT, FIELDS = (400, "malformed_request"), (413, "request_too_large"), (422, "invalid_field")
# What is sent, and the status and code of the answer.
BODIES: dict[str, tuple[str, tuple[int, str]]] = {
    "53 nan": (LENET % ("DS", ', "hyperparameters": {"learning_rate": NaN}'), JSON),
    "53 infinity": (LENET % ("DS", ', "hyperparameters": {"learning_rate": -Infinity}'), JSON),
    "54 1e999": (LENET % ("DS", ', "hyperparameters": {"learning_rate": 1e999}'), JSON),
    "55 deep": ("[" * 10_000 + "]" * 10_000, JSON),
    "56 large": ('{"x": "' + "y" * 10_000_000 + '"}', LIMIT),
    "57 twice": (LENET % ("DS", ', "name": "y"'), JSON),
    "58 surrogate": (LENET % ("DS", ', "description": "\\ud800"'), JSON),
    "59 minus": (LENET % ("DS", ', "hyperparameters": {"epochs": -1}'), FIELDS),
    "59 zero": (LENET % ("DS", ', "hyperparameters": {"epochs": 0}'), FIELDS),
    "59 huge": (LENET % ("DS", ', "hyperparameters": {"epochs": 9223372036854775808}'), FIELDS),
    "60 field": (LENET % ("DS", ', "epoch": 3'), FIELDS),
    "60 network": (
        '{"architecture": "resnet81", "dataset": "DS", "name": "x"}',
        (422, "architecture_unknown"),
    ),
    "61 path": ('{"architecture": "../../x", "dataset": "DS", "name": "x"}', FIELDS),
    # Another owner's is the same to its caller: T20.
    "63 nobody's": (LENET % ("NOBODY", ""), (404, "dataset_not_found")),
}


def order(service: Service, body: str, query: str = "") -> httpx2.Response:
    sent, kind = body.encode("utf-8", "surrogatepass"), {"Content-Type": "application/json"}
    return service.http.post(f"/finetune{query}", content=sent, headers=kind)


def test_bodies(service: Service, tell: Tell, record: Record) -> None:
    job = by_form(service, pets()).json()
    assert service.ended(job["id"])["state"] == "succeeded"
    dataset = job["dataset"].partition("@")[0]
    nobody = dataset[:-1] + ("0" if dataset[-1] != "0" else "1")
    peak, slowest = Peak(service), 0.0
    for name, (body, expected) in BODIES.items():
        began = time.monotonic()
        answer = order(service, body.replace("DS", dataset).replace("NOBODY", nobody))
        slowest = max(slowest, time.monotonic() - began)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == expected, (name, answer.text[:200])
        assert problem["request_id"], name
    tell(f"T18 bodies: {len(BODIES)} refused by code, {cost(peak)}, at most {slowest:.2f} s")
    goal(record, "T18 bodies", slowest)
    plain = order(service, LENET % (dataset, ""))  # Nothing else was wrong with them.
    assert plain.status_code == 202, plain.text
    assert service.http.post(f"/jobs/{plain.json()['id']}/cancel").is_success


def test_a_dataset_that_is_still_read_has_no_plan_but_may_be_ordered_from(
    service: Service, tell: Tell
) -> None:
    """Number 64; the order is no error, as one with its archive is such an order, too."""
    with busy(service):
        read = by_form(service, pets()).json()
        body = LENET % (read["dataset"].partition("@")[0], "")
        answer = order(service, body, "?dry_run=true")
        assert (answer.status_code, answer.json()["code"]) == (409, "dataset_not_ready")
        ordered = order(service, body)
        assert ordered.status_code == 202, ordered.text
        assert ordered.json()["state"] == "waiting"
    job = service.ended(ordered.json()["id"])
    assert job["state"] == "succeeded", job
    tell("T18 an unsealed dataset: 409 for a plan of it, an order waits until it is sealed")


@contextlib.contextmanager
def busy(service: Service) -> Iterator[None]:
    """Keep the one worker at a training meanwhile, so that what is queued stays queued."""
    long = {"epochs": 1000}
    job = service.finetune(
        pets(), name="long", architecture="lenet", weights="none", hyperparameters=long
    )
    wait_for(lambda: service.job(job)["phase"] == "training", 60)
    yield
    assert service.http.post(f"/jobs/{job}/cancel").is_success


def test_requests_no_client_would_send(service: Service, tell: Tell, record: Record) -> None:
    service.predict(("not.png", b"x"))  # The first image for a network of ImageNet loads PyTorch.
    peak, slowest = Peak(service), 0.0
    for name, (request, expected) in REQUESTS.items():
        began = time.monotonic()
        status = raw(service, request).split(b" ")[1:2]
        slowest = max(slowest, time.monotonic() - began)
        assert status, name
        assert int(status[0]) in (expected, LOST), (name, status)
    assert service.http.get("/healthz").status_code == 200
    tell(f"T18 requests: {len(REQUESTS)} answered as listed, {cost(peak)}, at most {slowest:.2f} s")
    goal(record, "T18 requests", slowest)


def test_ten_thousand_ranges_are_one_answer(service: Service, tell: Tell, record: Record) -> None:
    """Number 71, of every way in which bytes leave: built, from storage, rendered."""
    job = service.ended(by_form(service, raw_zip(honest(GOOD))).json()["id"])
    version = f"/datasets/{job['dataset'].partition('@')[0]}/versions/1"
    image = service.http.get(f"{version}/images").json()["data"][0]["links"]
    ranges = {"Range": "bytes=" + ",".join(["0-"] * 10_000)}
    peak, slowest = Peak(service), 0.0
    paths = ("/openapi.json", f"{version}/report", image["content"], image["thumbnail"])
    for path in paths:
        whole = service.http.get(path)
        began = time.monotonic()
        answer = service.http.get(path, headers=ranges)
        slowest = max(slowest, time.monotonic() - began)
        assert (answer.status_code, answer.content) == (200, whole.content), path
    tell(f"T18 ranges: ignored by {len(paths)} routes, {cost(peak)}, at most {slowest:.2f} s")
    goal(record, "T18 ranges", slowest)


def cost(peak: Peak) -> str:
    """Judge the memory, and put it into words."""
    rise = peak.rise()
    assert rise < RISE, f"{rise} KiB"
    return f"memory +{rise // 1024} MiB"


def goal(record: Record, name: str, seconds: float) -> None:
    record(name, seconds, GOAL_SECONDS)
    assert seconds <= MOST_SECONDS, name


def took(job: dict[str, Any]) -> float:
    """Return the seconds between a job's start and end by the service's clock."""

    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()
