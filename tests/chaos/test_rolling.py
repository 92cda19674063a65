"""T11: SIGTERM to the api while it classifies, to all of `topwork up`, to two apis in turn."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.system.settings import Settings
from tests.app.processes import alive, command_line, descendants
from tests.chaos.api_process import Api, api
from tests.chaos.conftest import Tell, times
from tests.chaos.proxy import Proxy
from tests.e2e.conftest import Service, blocks, png, running  # noqa: F401 - blocks is a fixture.
from tests.waiting import wait_for

pytestmark = pytest.mark.chaos
CLIENTS, STOPS = 4, 2
EXIT_SECONDS = 25.0
SLOW_SECONDS, GRACE_OF_UP = 5.0, 2.0
IN_HAND_SECONDS = 1.0  # A request may take so long after a stop of `topwork up` has begun.
LONG, EPOCHS = 400, 60
SETTLED = 0.1  # A request sent this long before the signal is in the api's hands.


def api_of(service: Service) -> int:
    below = descendants(service.process.pid)
    return next(pid for pid in below if "app.api.main" in command_line(pid))


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


@pytest.mark.nightly
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
            pid = api_of(service)
            with in_hand(service):
                os.kill(pid, signal.SIGTERM)
                at = time.monotonic()
                wait_for(lambda pid=pid: not alive([pid]), 60)
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
        long = service.finetune(blocks, name="long", **lenet(LONG))
        stopped = stop_in_mid_job(service, long)
    answered = sum(how == "200" for _, how in seen)
    tell(
        f"T11 {len(gaps)} api restarts under load: {answered} predicts answered 200, 0 otherwise,"
        f" {len(seen) - answered} not connected, exit after {slowest:.1f} s; all of `topwork up`"
        f" {stopped:.1f} s after SIGTERM, with a training and a predict under way"
    )
    record("T11 api exit", slowest, EXIT_SECONDS)
    record("T11 exit of all", stopped, EXIT_SECONDS)


def lenet(epochs: int) -> dict[str, Any]:
    fixed = {"early_stopping": None, "hyperparameters": {"epochs": epochs}}
    return {"architecture": "lenet", "weights": "none", **fixed}


@contextmanager
def in_hand(service: Service) -> Iterator[None]:
    """Have half of a prediction's body sent on entering; it must be answered with 200."""
    halves: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        answer: Future[str] = pool.submit(slowly, service.url, halves, IN_HAND_SECONDS)
        wait_for(lambda: halves or answer.done())
        yield
        assert answer.result(60) == "200"


def stop_in_mid_job(service: Service, job: str) -> float:
    """Stop as `docker stop` does, with a job and a prediction under way; return the seconds."""
    wait_for(lambda: service.job(job)["progress"] > 0, 120)
    below = descendants(service.process.pid)
    with in_hand(service):
        service.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert service.process.wait(EXIT_SECONDS) == 0
        seconds = time.monotonic() - began
    wait_for(lambda: not alive(below), 5)
    return seconds


@pytest.mark.nightly
def test_a_stop_of_all_in_mid_job_costs_no_step(
    tmp_path: Path,
    blocks: bytes,  # noqa: F811 - the fixture.
    tell: Tell,
) -> None:
    seconds, digests = [], []
    with running(tmp_path / "data") as service:
        calm = service.finetune(blocks, name="blocks", **lenet(EPOCHS))
        assert service.ended(calm)["state"] == "succeeded"
        digests.append(service.http.get("/models/blocks/versions/1").json()["digest"])
        job = service.finetune(blocks, name="stopped", **lenet(EPOCHS))
        seconds.append(stop_in_mid_job(service, job))
    with running(tmp_path / "data") as service:
        done = service.ended(job)
        assert (done["state"], done["attempt"]) == ("succeeded", 2), done
        digests.append(service.http.get("/models/stopped/versions/1").json()["digest"])
    assert digests[0] == digests[1]
    tell(f"T11 `topwork up` stopped in mid-job after {seconds[0]:.1f} s: the same weights")


def slow_form(halves: list[float], seconds: float) -> Iterator[bytes]:
    """A form with a picture that takes long to arrive; note when half of it was sent."""
    said = "--x\r\nContent-Disposition: form-data; name="
    yield f'{said}"model"\r\n\r\nblocks\r\n{said}"file"; filename="x.png"\r\n\r\n'.encode()
    picture = png(1, 5)
    half = len(picture) // 2
    yield picture[:half]
    halves.append(time.monotonic())
    time.sleep(seconds)
    yield picture[half:] + b"\r\n--x--\r\n"


def slowly(url: str, halves: list[float], seconds: float) -> str:
    """Predict over a new connection; return how it ended."""
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
            answer = client.post("/predict", content=slow_form(halves, seconds), headers=form)
    except httpx2.TransportError as error:
        return repr(error)
    return f"{answer.status_code} {'' if answer.is_success else answer.text}".strip()


def ask_slowly(url: str, halves: list[float], seen: list[str], done: threading.Event) -> None:
    """Predict over and over, each time over a new connection and for longer than `topwork up`."""
    while not done.is_set():
        seen.append(slowly(url, halves, SLOW_SECONDS))


@pytest.mark.nightly
def test_two_apis_behind_a_proxy_are_restarted_without_a_failed_request(
    tmp_path: Path,
    blocks: bytes,  # noqa: F811 - the fixture.
    tell: Tell,
) -> None:
    """The proxy sends nothing new to the one that is about to go, as every rollout does."""
    config = {"architecture": "lenet", "weights": "none", "hyperparameters": {"epochs": 1}}
    halves: list[float] = []
    seen: list[str] = []
    exits: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="topwork-") as run,  # Its sockets need a short path.
        running(tmp_path / "data", TOPWORK_RUN_DIR=run) as service,
        ExitStack() as apis,
    ):
        job = service.finetune(blocks, name="blocks", **config)
        assert service.ended(job)["state"] == "succeeded"
        settings = Settings(data_dir=service.data_dir, run_dir=Path(run), offline=True)
        serving = [apis.enter_context(api(settings)) for _ in range(2)]
        with Proxy(port_of(serving[1])) as proxy:
            done, url = threading.Event(), f"http://127.0.0.1:{proxy.port}"
            clients = [
                threading.Thread(target=ask_slowly, args=(url, halves, seen, done))
                for _ in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            for _ in range(2):
                count = len(halves)
                wait_for(lambda count=count: len(halves) >= count + CLIENTS, 60)
                old = serving.pop()
                proxy.upstream = port_of(serving[0])
                old[1].send_signal(signal.SIGTERM)
                at = time.monotonic()
                assert old[1].wait(EXIT_SECONDS) == 0
                exits.append(time.monotonic() - at)
                serving.insert(0, apis.enter_context(api(settings)))
            done.set()
            for client in clients:
                client.join(60)
    assert set(seen) == {"200"}
    tell(
        f"T11 2 apis restarted one by one: {len(seen)} predictions of {SLOW_SECONDS:g} s and more,"
        f" 0 failed, exits after {exits[0]:.1f} s and {exits[1]:.1f} s"
    )
    assert min(exits) > GRACE_OF_UP, "no request was under way"


def port_of(served: Api) -> int:
    return int(served[0].base_url.port or 0)
