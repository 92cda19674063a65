"""`ready` is true: what is asked from that moment on is answered, also while a part restarts."""

import http.server
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.app.running import Up
from tests.chaos.conftest import Tell, times
from tests.e2e.conftest import blocks, png, zip_of  # noqa: F401 - blocks is a fixture.
from tests.waiting import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
STARTS, ASKED, CLIENTS = 10, 1000, 16
KILLS = 5
CONFIG = {"architecture": "lenet", "weights": "none", "hyperparameters": {"epochs": 1}}
Start = Callable[[], Up]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Run `topwork up` on the test's data folder, again and again."""
    monkeypatch.setenv("TOPWORK_OFFLINE", "true")
    words = ("app.cli", "up", "--port", "0", "--data-dir", str(tmp_path / "data"))
    started: list[Up] = []

    def run() -> Up:
        started.append(Up(tmp_path / f"log{len(started)}", *words))
        return started[-1]

    yield run
    for up in started:
        up.kill()


@pytest.fixture
def trained(start: Start, blocks: bytes) -> None:  # noqa: F811 - the fixture.
    """Leave a model in the data folder."""
    up = start()
    with httpx2.Client(base_url=up.wait_said(r"ready at (http://\S+)"), timeout=60) as client:
        files = {"file": ("blocks.zip", blocks)}
        config = json.dumps({**CONFIG, "name": "blocks"})
        job = client.post("/finetune", files=files, data={"config": config}).json()["id"]
        wait_for(lambda: client.get(f"/jobs/{job}").json()["state"] == "succeeded", 120)
    assert up.interrupt()[0] == 0


def ask(url: str, count: int) -> Counter[str]:
    """Predict with many clients at once, each request over a connection of its own."""
    alone = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    with (
        httpx2.Client(base_url=url, limits=alone, timeout=60, trust_env=False) as client,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):

        def one(number: int) -> str:
            files = {"file": ("x.png", png(number % 4, number % 50))}
            try:
                answer = client.post("/predict", files=files, data={"model": "blocks"})
            except httpx2.TransportError as error:
                return type(error).__name__
            return f"{answer.status_code}{'' if answer.is_success else answer.text}"

        return Counter(pool.map(one, range(count)))


@pytest.mark.usefixtures("trained")
def test_from_the_moment_it_says_ready_no_prediction_is_refused(start: Start, tell: Tell) -> None:
    ends: Counter[str] = Counter()
    seconds = []
    for _ in range(times(STARTS)):
        began, up = time.monotonic(), start()
        url = up.wait_said(r"ready at (http://\S+)")
        seconds.append(time.monotonic() - began)
        assert httpx2.get(f"{url}/readyz").json()["status"] == "ready"
        ends += ask(url, ASKED)
        assert up.interrupt()[0] == 0
    assert ends == {"200": ASKED * times(STARTS)}
    tell(
        f"ready {times(STARTS)} starts, {ends.total()} predictions by {CLIENTS} clients from the"
        f" first moment on: 0 refused; ready after {min(seconds):.1f} to {max(seconds):.1f} s"
    )


@pytest.mark.nightly
@pytest.mark.usefixtures("trained")
def test_from_the_moment_it_listens_none_is_refused_either(
    start: Start, tmp_path: Path, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait: who connects for the api, and a prediction for the predictor."""
    monkeypatch.setenv("TOPWORK_PREDICT_WAIT_SECONDS", "60")
    holder = tmp_path / "data/topwork.lock"
    ends: Counter[str] = Counter()
    for _ in range(times(STARTS)):
        holder.write_text("")
        up = start()
        url = json.loads(wait_for(lambda: (told := holder.read_text()) and told, 60))["url"]
        assert not up.said("ready at")
        ends += ask(url, ASKED // 10)
        assert up.interrupt()[0] == 0
    assert ends == {"200": ASKED // 10 * times(STARTS)}
    tell(f"ready {ends.total()} predictions sent before it was: 0 refused")


@pytest.mark.usefixtures("trained")
def test_a_killed_predictor_costs_no_prediction(
    start: Start, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_PREDICT_WAIT_SECONDS", "60")
    up = start()
    url = up.wait_said(r"ready at (http://\S+)")
    ends: Counter[str] = Counter()
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            ends.update(ask(url, CLIENTS))

    loading = threading.Thread(target=load)
    loading.start()
    for kill in range(times(KILLS)):
        answered = ends.total()
        wait_for(lambda answered=answered: ends.total() > answered + 3 * CLIENTS, 120)
        os.kill(up.child("app.predictor"), signal.SIGKILL)
        up.wait_said("predictor is ready", kill + 2)
    done.set()
    loading.join()
    assert ends.keys() == {"200"}, ends
    assert up.interrupt()[0] == 0
    tell(f"ready predictor killed {times(KILLS)} times under load: all of {ends.total()} answered")


class Foreign(http.server.BaseHTTPRequestHandler):
    """Another program, which says that all is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.mark.nightly
def test_another_program_that_answers_in_the_predictors_place_is_not_taken_for_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("TOPWORK_PREDICTOR_URL", f"http://127.0.0.1:{server.server_port}")
        up = start()
        code = up.popen.wait(180)
        server.shutdown()
    assert code == 1
    assert not up.said("ready at")
    assert up.said("Error: predictor ended 3 times before it was ready")
    assert up.said("  The predictor cannot listen: .*in use")
    assert up.said("Hint: ")
