"""Who stops reading the log stops nothing: `topwork up` and the predictor, in full."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from core.system.settings import Settings
from tests.app.processes import alive, descendants
from tests.app.running import ROOT, Up
from tests.chaos.conftest import Tell, times
from tests.e2e.conftest import blocks, png, zip_of  # noqa: F401 - blocks is a fixture.
from tests.stuck import KINDS, stuck
from tests.waiting import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
REQUESTS = 2000
CONFIG = {"architecture": "lenet", "weights": "none", "hyperparameters": {"epochs": 2}}
ENDS_WITHIN = 10.0


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_OFFLINE", "true")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_up_answers_works_and_ends(
    kind: str,
    tmp_path: Path,
    blocks: bytes,  # noqa: F811 - the fixture.
    tell: Tell,
) -> None:
    holder = tmp_path / "data/topwork.lock"
    with stuck(kind) as place:
        words = ("app.cli", "up", "--port", "0", "--data-dir", str(tmp_path / "data"))
        up = Up(tmp_path / "log", *words, output=place.fd)
        try:
            url = json.loads(wait_for(lambda: holder.exists() and holder.read_text(), 60))["url"]
            with httpx2.Client(base_url=url, timeout=60) as client:
                wait_for(lambda: client.get("/readyz").is_success, 120)
                for number in range(times(REQUESTS)):
                    assert client.get(f"/jobs?limit={1 + number % 100}").status_code == 200
                config = json.dumps({**CONFIG, "name": "blocks"})
                files = {"file": ("blocks.zip", blocks)}
                job = client.post("/finetune", files=files, data={"config": config}).json()["id"]
                wait_for(lambda: client.get(f"/jobs/{job}").json()["state"] == "succeeded", 120)
                for number in range(100):
                    files = {"file": ("x.png", png(number % 4, number))}
                    answer = client.post("/predict", files=files, data={"model": "blocks"})
                    assert answer.status_code == 200, answer.text
            assert place.takes_nothing()
            children = descendants(up.popen.pid)
            assert len(children) >= 4
            began = time.monotonic()
            up.popen.send_signal(signal.SIGTERM)
            assert up.popen.wait(2 * ENDS_WITHIN) == 0
            seconds = time.monotonic() - began
            wait_for(lambda: not alive(children), 1)
        finally:
            up.kill()
    assert seconds < ENDS_WITHIN
    tell(
        f"stuck {kind}: {times(REQUESTS)} requests, a job and 100 predictions answered,"
        f" all ended {seconds:.1f} s after SIGTERM"
    )


@pytest.fixture(params=KINDS)
def predictor(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[httpx2.Client, "subprocess.Popen[bytes]"]]:
    """A predictor by itself whose output nobody takes."""
    where = Settings(data_dir=tmp_path / "data").predictor_socket
    with stuck(request.param) as place:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "app.predictor"],
            env={"TOPWORK_DATA_DIR": str(tmp_path / "data"), "TOPWORK_OFFLINE": "1"},
            stdout=place.fd,
            stderr=place.fd,
            cwd=ROOT,
        )
        try:
            wait_for(where.exists, 120)
            transport = httpx2.HTTPTransport(uds=str(where))
            with httpx2.Client(transport=transport, base_url="http://p", timeout=60) as client:
                yield client, process
        finally:
            process.kill()
            process.wait()


@pytest.mark.nightly
def test_the_predictor_answers_and_ends(
    predictor: tuple[httpx2.Client, "subprocess.Popen[bytes]"],
) -> None:
    client, process = predictor
    image = png(0, 1)
    order = {"model": {"kind": "imagenet", "architecture": "resnet18"}, "top_k": 1}
    order |= {"sizes": [len(image)], "filenames": ["x.png"]}
    headers = {"X-Topwork-Request": json.dumps(order)}
    for _ in range(1000):  # What is refused is logged, too.
        answer = client.post("/predict", content=image, headers=headers)
        assert answer.json()["code"] == "weights_unavailable_offline", answer.text
        assert client.get("/healthz").status_code == 200
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(ENDS_WITHIN) == 0
    assert time.monotonic() - began < ENDS_WITHIN
