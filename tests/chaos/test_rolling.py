"""T11: SIGTERM to the api while images are being classified."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.app.processes import alive, command_line, descendants
from tests.chaos.conftest import Tell, times
from tests.e2e.conftest import Service, blocks, png, running  # noqa: F401 - blocks is a fixture.
from tests.waiting import wait_for

pytestmark = pytest.mark.chaos
CLIENTS, STOPS = 4, 2
EXIT_SECONDS = 25.0
SETTLED = 0.1  # A request sent this long before the signal is in the api's hands.


def api_of(service: Service) -> int:
    below = descendants(service.process.pid)
    return next(pid for pid in below if "app.main" in command_line(pid))


def ask(service: Service, seen: list[tuple[float, str]], done: threading.Event) -> None:
    """Predict over and over, each time over a new connection; note when it began, how it ended."""
    files = [("file", ("x.png", png(1, 5), "image/png"))]
    while not done.is_set():
        began = time.monotonic()
        try:
            with httpx2.Client(base_url=service.url, timeout=60, trust_env=False) as client:
                began = time.monotonic()
                answer = client.post("/predict", files=files, data={"model": "blocks"})
            seen.append((began, str(answer.status_code)))
        except httpx2.TransportError as error:
            seen.append((began, type(error).__name__))
            time.sleep(0.05)


def test_images_in_the_apis_hands_are_answered_before_it_leaves(
    tmp_path: Path,
    blocks: bytes,  # noqa: F811 - the fixture.
    tell: Tell,
    record: Callable[[str, float, float], None],
) -> None:
    config = {"architecture": "lenet", "weights": "none", "hyperparameters": {"epochs": 1}}
    seen: list[tuple[float, str]] = []
    gaps: list[tuple[float, float]] = []  # From each signal to the next answer.
    slowest = 0.0
    with running(tmp_path / "data") as service:
        job = service.finetune(blocks, name="blocks", **config)
        assert service.ended(job)["state"] == "succeeded"
        assert service.predict(("x.png", png(1, 5)), model="blocks").status_code == 200
        done = threading.Event()
        clients = [threading.Thread(target=ask, args=(service, seen, done)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(times(STOPS)):
            count = len(seen)
            wait_for(lambda count=count: [w for _, w in seen[count:]].count("200") > 20, 60)
            api = api_of(service)
            os.kill(api, signal.SIGTERM)
            at = time.monotonic()
            wait_for(lambda api=api: not alive([api]), 60)
            left = time.monotonic()
            slowest = max(slowest, left - at)
            wait_for(lambda left=left: any(b > left and how == "200" for b, how in seen), 60)
            gaps.append((at, time.monotonic()))
        done.set()
        for client in clients:
            client.join(60)
        ends = {how for _, how in seen}
        assert not {how for how in ends if how.isdigit()} - {"200"}
        broken = [one for one in seen if one[1] not in ("200", "ConnectError")]
        assert not [one for one in broken if not any(a - SETTLED < one[0] < b for a, b in gaps)]
    answered = sum(how == "200" for _, how in seen)
    tell(
        f"T11 {len(gaps)} api restarts under load: {answered} predicts answered 200, 0 otherwise,"
        f" {len(seen) - answered} not connected, exit after {slowest:.1f} s"
    )
    record("T11 api exit", slowest, EXIT_SECONDS)
