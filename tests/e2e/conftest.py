"""A whole Topwork, started as a user starts it: `topwork up` on a free port, real processes."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from core.store.resources import open_resources
from core.system.settings import Settings
from tests.invariants import broken_after_tidying, own_tmp
from tests.waiting import wait_for

TERMINAL = ("succeeded", "failed", "cancelled")


@dataclass
class Service:
    """A running service and a few words to talk to it."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]
    http: httpx2.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx2.Client(base_url=self.url, timeout=60)

    def finetune(self, archive: bytes, **config: Any) -> str:
        """Post an archive with its configuration and return the job's id."""
        files = {"file": ("images.zip", archive, "application/zip")}
        answer = self.http.post("/finetune", files=files, data={"config": json.dumps(config)})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, job_id: str, timeout: float = 120) -> dict[str, Any]:
        """Wait for a job's end and return it."""

        def look() -> dict[str, Any] | None:
            try:
                job = self.job(job_id)
            except httpx2.TransportError:  # The api is being restarted.
                return None
            return job if job["state"] in TERMINAL else None

        return wait_for(look, timeout)

    def predict(self, *images: tuple[str, bytes], **fields: Any) -> httpx2.Response:
        files = [("file", (name, data, "application/octet-stream")) for name, data in images]
        return self.http.post("/predict", files=files, data=fields)


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    data_dir: Path, *, spoiled: tuple[str, ...] = (), **environment: str
) -> Iterator[Service]:
    """Start `topwork up`, wait until it is ready, and stop it as Ctrl-C does.

    No process, no temporary file and, one tidying later, no object, folder or upload may be left
    over; every invariant must hold but of what a test has spoiled: of what its names begin with.
    """
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "up", "--port", str(port)]
    log = data_dir.parent / f"{data_dir.name}.log"
    with own_tmp() as temporary, log.open("w") as output:
        usual = {"TOPWORK_OFFLINE": "1", "NO_COLOR": "1", "TMPDIR": str(temporary)}
        process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir)],
            env={**os.environ, **usual, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        service = Service(f"http://127.0.0.1:{port}", data_dir, process)

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                checks = service.http.get("/readyz").json()["checks"]
                return set(checks.values()) == {"ok"}
            except httpx2.TransportError:
                return False

        try:
            wait_for(ready, 90)
            yield service
        finally:
            service.http.close()
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0, log.read_text()[-4000:]
    places = {
        name: environment.get(f"TOPWORK_{name.upper()}") for name in ("database_url", "storage_url")
    }
    urls: dict[str, Any] = {name: url for name, url in places.items() if url}
    with open_resources(Settings(data_dir=data_dir, **urls)) as left:
        found = broken_after_tidying(left)
    assert [one for one in found if not one.startswith(spoiled)] == []


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running service for every test of this folder that does not break it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("TOPWORK_")]:
            patch.delenv(name)
        with running(tmp_path_factory.mktemp("topwork") / "data") as started:
            yield started


def png(value: int, seed: int, size: int = 32) -> bytes:
    """Return a small PNG: a bright block whose place depends on `value`, plus seeded noise."""
    noise = np.random.default_rng(seed).integers(0, 60, (size, size, 3), dtype=np.uint8)
    row, column = divmod(value, 2)
    half = size // 2
    noise[row * half : (row + 1) * half, column * half : (column + 1) * half] += 180
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    """Return a zip archive of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def blocks() -> bytes:
    """A zip of four easy classes, 30 images of 32 px each."""
    names = ("nw", "ne", "sw", "se")
    return zip_of(
        {
            f"{name}/{index:03}.png": png(value, 1000 * value + index)
            for value, name in enumerate(names)
            for index in range(30)
        }
    )
