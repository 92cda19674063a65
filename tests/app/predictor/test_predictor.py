"""The predictor as a process of its own, over its real unix socket."""

import http.client
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.predictor_protocol import HEADER
from core.store.object_store import Storage
from core.system.machine import LOOK
from tests.app.trained import store_model
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
QUEUE = 20


@dataclass
class Server:
    """A predictor process and the models in its storage."""

    process: subprocess.Popen[bytes]
    socket: Path
    models: list[dict[str, Any]]
    log: Path

    def client(self) -> httpx2.Client:
        transport = httpx2.HTTPTransport(uds=str(self.socket))
        return httpx2.Client(transport=transport, base_url="http://predictor", timeout=60)

    def count(self, sample: str) -> float:
        with self.client() as client:
            text = client.get("/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(f"{sample} ")]
        return float(lines[0].split()[-1]) if lines else 0.0


def start(folder: Path, **environment: str) -> Server:
    data = folder / "data"
    storage = Storage(f"file://{data}/objects")
    models = [store_model(storage, folder / f"model{seed}", seed=seed) for seed in (1, 2)]
    log = folder / "log"
    names = {
        "TOPWORK_DATA_DIR": str(data),
        "TOPWORK_OFFLINE": "true",
        "TOPWORK_PREDICT_QUEUE": str(QUEUE),
        "OMP_NUM_THREADS": "1",
        "OMP_DISPLAY_ENV": "VERBOSE",  # What OpenMP was told is in the log.
        **environment,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            (sys.executable, "-m", "app.predictor"),
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key not in LOOK} | names,
        )
    server = Server(process, data / "run" / "predictor.sock", models, log)
    wait_for(lambda: server.socket.exists() or process.poll() is not None, 120)
    assert process.poll() is None, log.read_text()
    return server


def stop(server: Server) -> int:
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
    try:
        return server.process.wait(20)
    finally:
        server.process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start(tmp_path_factory.mktemp("p"))
    yield started
    assert stop(started) == 0
    assert "Traceback" not in started.log.read_text()


def picture(seed: int, kind: str = "PNG") -> bytes:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize((40 + seed, 60), Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


def order(model: dict[str, Any], images: list[bytes], top_k: int = 3, **changes: Any) -> str:
    names = [f"{number}.png" for number in range(len(images))]
    sizes = [len(image) for image in images]
    fields = {"model": model, "top_k": top_k, "sizes": sizes, "filenames": names, **changes}
    return json.dumps(fields)


def ask(
    client: httpx2.Client, named: dict[str, Any], *images: bytes, **options: Any
) -> httpx2.Response:
    headers = {HEADER: order(**{"model": named, "images": list(images), **options})}
    return client.post("/predict", content=b"".join(images), headers=headers)


def results(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


class HalfSent:
    """A request whose last byte is still to come."""

    def __init__(self, server: Server, image: bytes, copies: int = 1) -> None:
        self._last = image[-1:]
        images = [image] * copies
        self._connection = http.client.HTTPConnection("predictor", timeout=30)
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.settimeout(30)
        self._connection.sock.connect(str(server.socket))
        body = b"".join(images)
        self._connection.putrequest("POST", "/predict")
        self._connection.putheader(HEADER, order(server.models[0], images))
        self._connection.putheader("Content-Length", str(len(body)))
        self._connection.endheaders()
        self._connection.send(body[:-1])

    def send_rest(self) -> None:
        self._connection.send(self._last)

    def finish(self) -> tuple[int, dict[str, Any]]:
        self.send_rest()
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        self._connection.close()
        return response.status, answer

    def drop(self) -> None:
        self._connection.close()


def test_the_socket_is_for_this_user_alone(server: Server) -> None:
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    with server.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}


def test_one_image_gets_the_ranking_of_its_model(server: Server) -> None:
    with server.client() as client:
        answer = ask(client, server.models[0], picture(1), top_k=1000)
    (result,) = results(answer)
    assert result["filename"] == "0.png"
    assert result["status"] == "ok"
    assert result["decision"] == "accept"
    ranking = result["predictions"]
    assert {entry["label"] for entry in ranking} == {"ant", "bee", "cicada"}
    assert result["label"] == ranking[0]["label"]
    assert result["confidence"] == ranking[0]["confidence"]
    assert [entry["confidence"] for entry in ranking] == sorted(
        (entry["confidence"] for entry in ranking), reverse=True
    )
    assert sum(entry["confidence"] for entry in ranking) == pytest.approx(1)
    assert all(["ant", "bee", "cicada"][entry["index"]] == entry["label"] for entry in ranking)


def test_company_changes_no_answer(server: Server) -> None:
    """48 requests on 12 connections at once against the same images one by one."""
    pictures = [picture(seed) for seed in range(12)]
    with server.client() as client:
        alone = {
            (number, which): results(ask(client, model, image))[0]
            for which, model in enumerate(server.models)
            for number, image in enumerate(pictures)
        }

    def many(worker: int) -> list[tuple[tuple[int, int], dict[str, Any]]]:
        found = []
        with server.client() as client:
            for turn in range(4):
                which = (worker + turn) % 2
                (result,) = results(ask(client, server.models[which], pictures[worker]))
                found.append(((worker, which), result))
        return found

    batches = server.count("topwork_predict_batch_images_count")
    with ThreadPoolExecutor(12) as pool:
        together = [pair for pairs in pool.map(many, range(12)) for pair in pairs]
    assert len(together) == 48
    for key, result in together:
        assert result["label"] == alone[key]["label"]
        for ours, theirs in zip(result["predictions"], alone[key]["predictions"], strict=True):
            assert ours["index"] == theirs["index"]
            assert ours["confidence"] == pytest.approx(theirs["confidence"], abs=1e-5)
    assert len({alone[key]["confidence"] for key in alone}) > 12
    assert server.count("topwork_predict_batch_images_count") - batches <= 48


def test_images_of_one_request_share_passes(server: Server) -> None:
    before = server.count("topwork_predict_batch_images_count")
    with server.client() as client:
        got = results(ask(client, server.models[0], *[picture(seed) for seed in range(16)]))
        one = results(ask(client, server.models[0], picture(7)))[0]
    assert [result["filename"] for result in got] == [f"{number}.png" for number in range(16)]
    assert got[7]["confidence"] == pytest.approx(one["confidence"], abs=1e-5)
    assert server.count("topwork_predict_batch_images_count") - before < 16


def test_a_bad_image_does_not_spoil_the_others(server: Server) -> None:
    good = picture(3)
    with server.client() as client:
        alone = results(ask(client, server.models[0], good))[0]
        got = results(
            ask(client, server.models[0], good, b"no image", good[:-20], b"", picture(4, "GIF"))
        )
    assert [result["status"] for result in got] == ["ok", "error", "error", "error", "ok"]
    assert got[0]["confidence"] == pytest.approx(alone["confidence"], abs=1e-5)
    for result in got[1:4]:
        assert result["error"]["code"] == "image_undecodable"
        assert result["error"]["hint"]


def test_names_of_files_come_back_as_they_are(server: Server) -> None:
    names = ["../../etc/passwd", "пчела\x00\n.jpg", "é" * 1000, "", "a" * 20_000] + [
        "😀" * 1000
    ] * 11
    images = [picture(1)] * 16
    with server.client() as client:
        got = results(ask(client, server.models[0], *images, filenames=names))
    assert [result["filename"] for result in got] == names


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"sizes": [3]}, 400, "malformed_request"),
        ({"sizes": [10**7]}, 400, "malformed_request"),
        ({"sizes": [-1]}, 400, "malformed_request"),
        ({"sizes": []}, 400, "malformed_request"),
        ({"filenames": []}, 400, "malformed_request"),
        ({"top_k": 0}, 400, "malformed_request"),
        ({"model": {"kind": "other"}}, 400, "malformed_request"),
        ({"surprise": 1}, 400, "malformed_request"),
        ({"sizes": [1] * 17, "filenames": [""] * 17}, 413, "request_too_large"),
        ({"sizes": [10**9]}, 413, "request_too_large"),
        (
            {"model": {"kind": "imagenet", "architecture": "lenet"}},
            422,
            "weights_unavailable_offline",
        ),
        ({"model": {"kind": "imagenet", "architecture": "vgg"}}, 422, "architecture_unknown"),
    ],
)
def test_wrong_orders_are_refused_by_name(
    server: Server, changes: dict[str, Any], status: int, code: str
) -> None:
    with server.client() as client:
        answer = ask(client, server.models[0], picture(1), **changes)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]


def test_an_order_must_be_there(server: Server) -> None:
    with server.client() as client:
        for text in (b"", b"{", b"[]", b"null", b"\xff\xfe"):
            answer = client.post("/predict", content=b"", headers={HEADER.encode(): text})
            assert answer.status_code == 400
        assert client.get("/predict").status_code == 405
        assert client.get("/nothing").status_code == 404


def test_a_model_whose_files_are_gone_says_so(server: Server) -> None:
    missing = {**server.models[0], "prefix": "models/none/1"}
    card = {**missing["files"]["card.json"], "sha256": "0" * 64}
    missing["files"] = {**missing["files"], "card.json": card}
    with server.client() as client:
        answer = ask(client, missing, picture(1))
    assert (answer.status_code, answer.json()["code"]) == (409, "integrity")


def test_a_full_queue_answers_503_and_recovers(server: Server) -> None:
    waiting = HalfSent(server, picture(1), copies=16)
    wait_for(lambda: server.count("topwork_predict_images_inside") == 16)
    with server.client() as client:
        answer = ask(client, server.models[0], *[picture(2)] * 5)
        assert (answer.status_code, answer.json()["code"]) == (503, "predict_queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert len(results(ask(client, server.models[0], *[picture(2)] * 4))) == 4
    status, answered = waiting.finish()
    assert status == 200
    assert len(answered["results"]) == 16
    with server.client() as client:
        assert len(results(ask(client, server.models[0], *[picture(2)] * 5))) == 5
    assert server.count("topwork_predict_images_inside") == 0


def test_a_caller_that_goes_away_leaves_its_place(server: Server) -> None:
    waiting = HalfSent(server, picture(1), copies=16)
    wait_for(lambda: server.count("topwork_predict_images_inside") == 16)
    waiting.drop()
    wait_for(lambda: server.count("topwork_predict_images_inside") == 0)


def test_pictures_of_a_caller_that_goes_away_are_not_decoded(server: Server) -> None:
    out = io.BytesIO()
    Image.new("RGB", (6000, 5900), (9, 99, 9)).save(out, "JPEG", progressive=True)
    before = server.count('topwork_predict_images_total{outcome="ok"}')
    waiting = HalfSent(server, out.getvalue(), copies=16)
    waiting.send_rest()
    wait_for(lambda: server.count("topwork_predict_images_inside") == 16)
    waiting.drop()
    wait_for(lambda: server.count("topwork_predict_images_inside") == 0)
    assert server.count('topwork_predict_images_total{outcome="ok"}') < before + 16


def test_threads_of_torch_wait_as_long_as_is_set(server: Server) -> None:
    """This predictor is started as a container starts it: by no process of ours."""
    with server.client() as client:
        results(ask(client, server.models[0], picture(1)))
    assert "GOMP_SPINCOUNT = '5000'" in server.log.read_text()


def test_sigterm_answers_what_was_begun_and_ends(tmp_path: Path) -> None:
    server = start(tmp_path)
    with server.client() as idle:
        assert idle.get("/healthz").status_code == 200
        waiting = HalfSent(server, picture(1))
        wait_for(lambda: server.count("topwork_predict_images_inside") == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not _connects(server.socket))
        status, answered = waiting.finish()
    assert status == 200
    assert answered["results"][0]["status"] == "ok"
    assert server.process.wait(5) == 0, server.log.read_text()
    assert not server.socket.exists()
    assert "Traceback" not in server.log.read_text()


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
