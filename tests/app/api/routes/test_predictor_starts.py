"""Predictions that come while the predictor is away, starts, or ends under them."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
from starlette.testclient import TestClient

from app.api.main import create_app
from app.api.state import Service
from core.system.settings import Settings
from tests.app.api.routes.predictor import listen, standing_in
from tests.app.apiclient import local_client, png, served
from tests.waiting import wait_for

QUEUE = 4
IMAGE = {"Content-Type": "image/png"}
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def patient(settings: Settings) -> Iterator[TestClient]:
    """An api whose predictions wait as long as a test may take."""
    update = {"predict_wait_seconds": 60.0, "predict_queue": QUEUE}
    with local_client(create_app(settings.model_copy(update=update))) as client:
        yield client


def ask(client: TestClient) -> httpx2.Response:
    return client.post("/predict", content=png(), headers=IMAGE)


def held(client: TestClient) -> int:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service.admission.held


@contextmanager
def asking(client: TestClient, count: int) -> Iterator[list[Future[httpx2.Response]]]:
    """Have predictions under way that wait for a predictor."""
    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(ask, client) for _ in range(count)]
        wait_for(lambda: held(client) == count)
        yield answers


def test_what_comes_before_the_predictor_is_answered_once_it_is_there(
    patient: TestClient, settings: Settings
) -> None:
    with asking(patient, QUEUE) as answers:
        full = ask(patient)
        assert (full.status_code, full.json()["code"]) == (503, "predict_queue_full")
        with standing_in(settings) as stub:
            assert [answer.result(30).status_code for answer in answers] == [200] * QUEUE
    assert stub.bodies == [png()] * QUEUE
    assert held(patient) == 0


def test_a_prediction_waits_no_longer_than_the_setting_says(settings: Settings) -> None:
    for seconds in (0.0, 0.5):
        short = settings.model_copy(update={"predict_wait_seconds": seconds})
        with local_client(create_app(short)) as client:
            began = time.monotonic()
            answer = ask(client)
            assert seconds <= time.monotonic() - began < seconds + 5
        assert (answer.status_code, answer.json()["code"]) == (503, "predictor_unavailable")
        assert "Retry-After" in answer.json()["hint"]
        assert int(answer.headers["Retry-After"]) > 0


def test_a_client_that_leaves_waits_no_longer(settings: Settings) -> None:
    """Its place is free for somebody who stays."""
    app = create_app(settings.model_copy(update={"predict_wait_seconds": 60.0}))
    with served(app) as url:
        admission = app.state.service.admission
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{url}/predict", content=png(), headers=IMAGE, timeout=1.0)
        wait_for(lambda: admission.held == 0, 10)


def lose(listener: socket.socket, stages: list[bytes]) -> None:
    """Take orders and close their connections, each at another stage of the answer."""
    left = [*stages]
    while left:
        connection, _ = listener.accept()
        with connection:
            got = b""
            while not got.endswith(png()) and not got.startswith(b"GET /healthz"):
                got += connection.recv(65536)
            connection.sendall(left.pop(0) if got.endswith(png()) else HEALTHY)


def tear_down(listener: socket.socket, connections: int) -> None:
    """Take connections and close them unread, as the kernel does for a process that was killed."""
    for _ in range(connections):
        listener.accept()[0].close()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
def test_a_predictor_that_ends_under_a_prediction_is_asked_once_more(
    patient: TestClient, settings: Settings, said: bytes
) -> None:
    with listen(settings) as listener, ThreadPoolExecutor(1) as pool:
        listener.listen()
        answer = pool.submit(ask, patient)
        lose(listener, [said])
        listener.close()
        with standing_in(settings) as stub:
            assert answer.result(30).status_code == 200
    assert len(stub.orders) == 1


def test_a_predictor_that_is_being_torn_down_counts_as_one_that_has_ended(
    patient: TestClient, settings: Settings
) -> None:
    with listen(settings) as listener, ThreadPoolExecutor(1) as pool:
        listener.listen()
        answer = pool.submit(ask, patient)
        lose(listener, [b""])
        tear_down(listener, 3)
        listener.close()
        with standing_in(settings) as stub:
            assert answer.result(30).status_code == 200
    assert len(stub.orders) == 1


def test_a_prediction_that_ends_the_predictor_twice_is_refused(
    patient: TestClient, settings: Settings
) -> None:
    with listen(settings) as listener, ThreadPoolExecutor(1) as pool:
        listener.listen()
        asked = pool.submit(ask, patient)
        lose(listener, [b"", b""])
        answer = asked.result(30)
    assert (answer.status_code, answer.json()["code"]) == (503, "predictor_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
