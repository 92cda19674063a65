"""T9: the disk fills up at every stage; nothing is corrupted, and it goes on when it is freed."""

import hashlib
import http.client
import io
import math
import os
import random
import secrets
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from sqlalchemy import select
from starlette.testclient import TestClient

from app.api.main import create_app
from app.api.uploads import partial_file
from core.domain import jobs
from core.store.migrate import upgrade
from core.store.resources import Resources, open_resources
from core.store.tables import Dataset, Job
from core.system.settings import Settings
from tests.app.apiclient import config, local_client, publish_dataset, zipped
from tests.chaos.api_process import api
from tests.chaos.conftest import Tell
from tests.chaos.small_disk import MEBIBYTE, SmallDisk, integrity, mounted
from tests.e2e.conftest import Service, blocks, running  # noqa: F401 - a fixture.
from tests.invariants import broken
from tests.waiting import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
HELD_SECONDS = 4.0  # How long the disk stays full in the middle of a job.
MOMENTS = ("queued", 0.1, 0.5, 0.9)
CONFIG: dict[str, Any] = {
    "architecture": "lenet",
    "weights": "none",
    "hyperparameters": {"epochs": 60},
    "early_stopping": None,
    "seed": 7,
}
SHORT: dict[str, Any] = {
    "TOPWORK_LEASE_SECONDS": "6",
    "TOPWORK_HEARTBEAT_SECONDS": "1",
    "TOPWORK_SWEEP_SECONDS": "1",
    "TOPWORK_DISK_RESERVE_BYTES": str(600 * MEBIBYTE),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with mounted(tmp_path / "disk", 1024) as made:
        yield made


@pytest.fixture
def service(disk: SmallDisk) -> Iterator[Service]:
    with running(disk.path / "data", **SHORT) as started:
        yield started


def noise(nbytes: int) -> bytes:
    """Return a zip that cannot be compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cat/1.png", os.urandom(nbytes))
    return buffer.getvalue()


def with_noise(archive: bytes, nbytes: int) -> bytes:
    """Return a zip with one more image, which takes so many bytes."""
    buffer = io.BytesIO(archive)
    with zipfile.ZipFile(buffer, "a") as longer:
        longer.writestr("nw/noise.png", noisy_png(math.isqrt(nbytes // 3)))
    return buffer.getvalue()


def noisy_png(edge: int) -> bytes:
    """Return a square image that cannot be compressed."""
    file = io.BytesIO()
    pixels = random.Random(5).randbytes(3 * edge * edge)  # noqa: S311 - repeatable.
    Image.frombytes("RGB", (edge, edge), pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.fixture(params=[24, 64])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    with mounted(tmp_path / "small", request.param) as made:
        yield made


@pytest.mark.parametrize("mebibytes", [24, 64, pytest.param(1024, marks=pytest.mark.nightly)])
def test_an_upload_is_refused_before_its_body_or_in_the_middle(
    mebibytes: int,
    tmp_path: Path,
    blocks: bytes,  # noqa: F811 - the fixture.
) -> None:
    with mounted(tmp_path / "disk", mebibytes) as disk:
        _refused_before_its_body_or_in_the_middle(disk, mebibytes + 76, blocks)


def _refused_before_its_body_or_in_the_middle(
    disk: SmallDisk,
    too_many: int,
    blocks: bytes,  # noqa: F811 - the fixture's value.
) -> None:
    settings = Settings(data_dir=disk.path / "data", offline=True)
    upgrade(settings.database_url)
    read: list[int] = []

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
        for _ in range(too_many):
            read.append(1)
            yield os.urandom(MEBIBYTE)

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    with local_client(create_app(settings)) as client:
        announced = form | {"Content-Length": str(too_many * MEBIBYTE)}
        early = client.post("/datasets", content=body(), headers=announced)
        assert (early.status_code, early.json()["code"]) == (507, "disk_full")
        read.clear()
        late = client.post("/datasets", content=body(), headers=form)
        assert (late.status_code, late.json()["code"]) == (507, "disk_full")
        assert len(read) > 1
        assert client.get("/datasets").json()["data"] == []
        assert list((settings.data_dir / "tmp").iterdir()) == []
        assert _send(client, blocks).status_code == 202
    with open_resources(settings) as resources:
        assert broken(resources, grace=0.0) == []
    assert integrity(settings.data_dir / "topwork.db") == "ok"


def _send(client: TestClient, content: bytes) -> Any:
    return client.post("/datasets", files={"file": ("blocks.zip", content)})


@pytest.fixture
def resources(service: Service) -> Iterator[Resources]:
    with open_resources(Settings(data_dir=service.data_dir)) as opened:
        yield opened


def reached(resources: Resources, job_id: str, moment: str | float) -> bool:
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
    if isinstance(moment, str):
        return moment == job.state or job.phase is not None
    return job.progress >= moment


def order(service: Service, dataset: str, name: str) -> str:
    answer = service.http.post("/finetune", json={"dataset": dataset, "name": name, **CONFIG})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest.mark.nightly
def test_a_job_outlives_a_full_disk_at_any_moment(
    disk: SmallDisk,
    service: Service,
    resources: Resources,
    blocks: bytes,  # noqa: F811 - as above.
    tell: Tell,
) -> None:
    first = service.ended(service.finetune(blocks, name="undisturbed", **CONFIG), 120)
    assert first["state"] == "succeeded", first
    for number, moment in enumerate(MOMENTS):
        job_id = order(service, first["dataset"], f"model{number}")
        wait_for(lambda moment=moment, id_=job_id: reached(resources, id_, moment), 60)
        with disk.full():
            until = time.monotonic() + HELD_SECONDS
            while time.monotonic() < until:
                disk.top_up()
                answer = service.http.post(f"/jobs/{job_id}/retry")
                assert answer.status_code in (409, 507), answer.text
                assert service.http.get(f"/jobs/{job_id}").status_code == 200
        job = service.ended(job_id, 120)
        assert job["state"] == "succeeded", (moment, job)
        assert job["result"]["digest"] == first["result"]["digest"], moment
        assert integrity(service.data_dir / "topwork.db") == "ok"
        assert broken(resources) == []
    tell(f"T9 a full disk for {HELD_SECONDS:g} s: {MOMENTS}, {len(MOMENTS)} jobs, the same hash")


def test_a_job_waits_for_room_and_says_so(
    disk: SmallDisk,
    service: Service,
    blocks: bytes,  # noqa: F811 - as above.
) -> None:
    # The upload takes its size and the job twice that, beside the twentieth of the disk, 51 MiB,
    # that stays free.
    archive = with_noise(blocks, 16 * MEBIBYTE)
    with disk.full(leave=74 * MEBIBYTE):
        sent = service.http.post("/datasets", files={"file": ("blocks.zip", archive)})
        assert sent.status_code == 202, sent.text
        job_id = sent.json()["id"]

        def waits() -> bool:
            job = service.http.get(f"/jobs/{job_id}").json()
            return (job["waiting_for"] or {}).get("for") == "disk"

        wait_for(waits, 20)
    job = service.ended(job_id, 60)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)


TUS = {"Tus-Resumable": "1.0.0"}
LENGTH, FIRST, LEFT = 4 * MEBIBYTE, 2 * MEBIBYTE, MEBIBYTE // 2


def patch(client: httpx2.Client, path: str, start: int, data: bytes, disk: SmallDisk) -> int:
    """Send a piece; the disk is filled after its first half. Return the answer's status."""
    line = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=60)
    line.putrequest("PATCH", path)
    for name, value in (TUS | {"Content-Type": "application/offset+octet-stream"}).items():
        line.putheader(name, value)
    line.putheader("Upload-Offset", str(start))
    line.putheader("Content-Length", str(len(data)))
    line.endheaders(data[: len(data) // 2])
    bytes_of = disk.path / "data" / partial_file.FOLDER / path.rpartition("/")[2]
    wait_for(lambda: bytes_of.stat().st_size > start)
    with disk.full(leave=LEFT):
        line.send(data[len(data) // 2 :])
        answer = line.getresponse()
        assert b"disk_full" in answer.read()
        assert client.get("/uploads").status_code == 200
    line.close()
    return answer.status


def test_a_piece_that_fills_the_disk_counts_as_far_as_it_came(small: SmallDisk) -> None:
    settings = Settings(data_dir=small.path / "data", offline=True)
    upgrade(settings.database_url)
    content = random.Random(7).randbytes(LENGTH)  # noqa: S311 - repeatable.
    with api(settings) as (client, _), open_resources(settings) as resources:
        announced = client.post("/uploads", headers=TUS | {"Upload-Length": str(LENGTH)})
        path = announced.headers["Location"]
        assert patch(client, path, 0, content, small) == 507
        arrived = client.get(path).json()["offset"]
        assert FIRST // 2 < arrived < LENGTH
        kept = partial_file.path_of(settings, path.rpartition("/")[2]).read_bytes()
        assert kept == content[:arrived]
        rest = TUS | {"Content-Type": "application/offset+octet-stream"}
        rest |= {"Upload-Offset": str(arrived)}
        assert client.patch(path, content=content[arrived:], headers=rest).status_code == 204
        used = client.post("/datasets", json={"upload": path.rpartition("/")[2]})
        assert used.status_code == 202, used.text
        with resources.database.read() as session:
            (dataset,) = session.scalars(select(Dataset))
        stored = resources.storage.get_bytes(str(dataset.upload))
        assert hashlib.sha256(stored).digest() == hashlib.sha256(content).digest()
        assert broken(resources, grace=0.0) == []
    assert integrity(small.path / "data" / "topwork.db") == "ok"


def test_a_submit_for_which_the_database_has_no_room_leaves_nothing(
    small: SmallDisk, tmp_path: Path
) -> None:
    url = f"sqlite:///{small.path}/topwork.db"
    settings = Settings(data_dir=tmp_path / "data", database_url=url, offline=True)
    upgrade(url)
    with open_resources(settings) as resources, api(settings) as (client, _):
        dataset = publish_dataset(resources, tmp_path / "pets").id
        wanted = {"dataset": dataset, "architecture": "lenet", "weights": "none"}
        archive = {"file": ("pets.zip", zipped())}
        orders: list[dict[str, Any]] = [
            {"url": "/finetune", "json": wanted},
            {"url": "/datasets", "files": archive},
            {"url": "/finetune", "files": archive, "data": config(weights="none")},
        ]
        taken: set[str] = set()
        refused: list[dict[str, Any]] = []
        with small.full():
            for one in orders:
                refused.append(until_refused(client, one, taken, small))
                assert client.get("/jobs").status_code == 200
            assert {job["id"] for job in listed(client) if job["kind"] == "finetune"} <= taken
            assert known(resources) == uploads(resources)
            assert integrity(small.path / "topwork.db") == "ok"
        for one in refused:
            answer = client.post(**one)
            assert answer.status_code == 202, answer.text
            assert "Idempotent-Replayed" not in answer.headers
            taken.add(answer.json()["id"])
        with resources.database.read() as session:
            waiting = session.scalars(select(Job.id).where(Job.state == "waiting")).all()
            ids = set(session.scalars(select(Job.id)))
        assert taken <= ids
        assert len(ids) == len(taken) + len(waiting)  # An archive with a training is two jobs.
        assert known(resources) == uploads(resources)
        assert broken(resources, grace=0.0) == []


def until_refused(
    client: httpx2.Client, order: dict[str, Any], taken: set[str], disk: SmallDisk
) -> dict[str, Any]:
    """Send an order under new keys until one finds no room; return that one."""
    for _ in range(50):
        disk.top_up()
        one = order | {"headers": {"Idempotency-Key": secrets.token_hex(8)}}
        answer = client.post(**one)
        if answer.status_code == 507:
            assert answer.json()["code"] == "disk_full"
            return one
        assert answer.status_code == 202, answer.text
        taken.add(answer.json()["id"])
    pytest.fail("the database found room for all")


def listed(client: httpx2.Client) -> list[dict[str, Any]]:
    return list(client.get("/jobs", params={"limit": 100}).json()["data"])


def known(resources: Resources) -> list[str]:
    """Return the archives that rows refer to."""
    with resources.database.read() as session:
        return sorted(filter(None, session.scalars(select(Dataset.upload))))


def uploads(resources: Resources) -> list[str]:
    return resources.storage.list("uploads")
