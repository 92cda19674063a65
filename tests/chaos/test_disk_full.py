"""T9: the disk fills up at every stage; nothing is corrupted, and it goes on when it is freed."""

import contextlib
import io
import os
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from core import jobs
from core.resources import Resources, open_resources
from core.settings import Settings
from tests.app.api import local_client
from tests.chaos.small_disk import MEBIBYTE, SmallDisk, mounted
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
SHORT = {
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


def integrity(data: Path) -> str:
    with contextlib.closing(sqlite3.connect(data / "topwork.db")) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def test_an_upload_is_refused_before_its_body_or_in_the_middle(
    disk: SmallDisk,
    blocks: bytes,  # noqa: F811 - the fixture.
) -> None:
    from core.migrate import upgrade  # noqa: PLC0415 - beside its use.

    settings = Settings(data_dir=disk.path / "data", offline=True)
    upgrade(settings.database_url)
    read: list[int] = []

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
        for _ in range(1100):
            read.append(1)
            yield os.urandom(MEBIBYTE)

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    with local_client(create_app(settings)) as client:
        announced = form | {"Content-Length": str(1100 * MEBIBYTE)}
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
    assert integrity(settings.data_dir) == "ok"


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


def test_a_job_outlives_a_full_disk_at_any_moment(
    disk: SmallDisk,
    service: Service,
    resources: Resources,
    blocks: bytes,  # noqa: F811 - as above.
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
        assert integrity(service.data_dir) == "ok"
        assert broken(resources) == []


def test_a_job_waits_for_room_and_says_so(
    disk: SmallDisk,
    service: Service,
    blocks: bytes,  # noqa: F811 - as above.
) -> None:
    with disk.full(leave=300 * MEBIBYTE):  # Less than the reserve, enough for the upload.
        sent = service.http.post("/datasets", files={"file": ("blocks.zip", blocks)})
        if sent.status_code == 507:
            pytest.skip("the upload itself found no room")
        job_id = sent.json()["id"]

        def waits() -> bool:
            job = service.http.get(f"/jobs/{job_id}").json()
            return (job["waiting_for"] or {}).get("for") == "disk"

        wait_for(waits, 20)
    job = service.ended(job_id, 60)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
