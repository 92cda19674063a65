import base64
import json
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api import prediction
from app.api.main import create_app
from core.store.resources import Resources
from core.system.settings import Settings
from tests.app.api.routes.predictor import Stub, standing_in
from tests.app.apiclient import local_client, png, publish_model
from tests.waiting import wait_for

PNG = {"Content-Type": "image/png"}


@pytest.fixture
def stub(settings: Settings) -> Iterator[Stub]:
    with standing_in(settings) as made:
        yield made


def test_images_in_a_form(client: TestClient, stub: Stub, resources: Resources) -> None:
    version = publish_model(resources)
    files = [("file", ("cat.jpg", png())), ("file", ("dog 2.png", png(side=9)))]
    answer = client.post("/predict", files=files, data={"model": "pets@1", "top_k": "3"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["object"] == "prediction"
    assert body["model"] == {
        "classes": 2, "name": "pets", "version": 1, "architecture": "lenet",
        "digest": f"sha256:{version.digest}", "rejection": None,
        "heatmap": False,
    }  # fmt: skip
    assert [result["filename"] for result in body["results"]] == ["cat.jpg", "dog 2.png"]
    assert body["results"][0]["predictions"][0]["label"] == "cat"
    assert body["timing_ms"]["decode"] == 1.5
    assert body["timing_ms"]["total"] > 0
    assert stub.bodies == [png() + png(side=9)]
    (order,) = stub.orders
    assert order.model.model_dump()["prefix"] == version.prefix
    assert order.top_k == 3


def test_one_image_as_the_body(client: TestClient, stub: Stub) -> None:
    headers = {"Content-Type": "image/png"}
    answer = client.post("/predict?model=mobilenet_v2&top_k=1", content=png(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["name"] == "mobilenet_v2"
    assert answer.json()["model"]["version"] is None
    assert stub.orders[0].model.model_dump() == {"kind": "imagenet", "architecture": "mobilenet_v2"}
    assert stub.bodies == [png()]


def test_what_is_relied_on_is_asked_for_in_any_body(client: TestClient, stub: Stub) -> None:
    images = [{"data": base64.b64encode(png()).decode()}]
    files = [("file", ("cat.jpg", png()))]
    client.post("/predict?reject=none", content=png(), headers=PNG)
    client.post("/predict?reject=0.9", content=png(), headers=PNG)
    client.post("/predict?reject=none", files=files, data={"reject": "0.8"})
    client.post("/predict", json={"images": images, "reject": 0.75})
    client.post("/predict", json={"images": images})
    assert [order.reject for order in stub.orders] == ["none", 0.9, 0.8, 0.75, "auto"]
    for bad in ("always", "1", "0.2", "nan"):
        answer = client.post(f"/predict?reject={bad}", content=png(), headers=PNG)
        assert (answer.status_code, answer.json()["param"]) == (422, "reject"), bad
    stub.status = 422
    stub.answer = {"code": "rejection_unavailable", "message": "Too few.", "hint": "More."}
    answer = client.post("/predict?reject=0.9", content=png(), headers=PNG).json()
    assert (answer["code"], answer["hint"]) == ("rejection_unavailable", "More.")


@pytest.mark.parametrize("shape", ["plain", "url", "lines", "unpadded", "urlsafe", "all"])
def test_base64_as_programs_write_it(client: TestClient, stub: Stub, shape: str) -> None:
    image = png(side=9) + b"\xff\xfe\xfb\xef\xbe" * 3  # Both signs in which the alphabets differ.
    text = base64.b64encode(image).decode()
    assert {"+", "/"} <= set(text)
    if shape in ("urlsafe", "all"):
        text = text.translate(str.maketrans("+/", "-_"))
    if shape in ("unpadded", "all"):
        text = text.rstrip("=")
    if shape in ("lines", "all"):
        text = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + "\n"
    if shape in ("url", "all"):
        text = f"data:image/png;base64,{text}"
    answer = client.post("/predict?model=mobilenet_v2", json={"images": [{"data": text}]})
    assert answer.status_code == 200, answer.text
    assert stub.bodies == [image]


@pytest.mark.parametrize(
    ("image", "code", "param", "words"),
    [
        ({"data": "@@@@"}, "invalid_field", "images.0.data", "not base64"),
        ({"data": "A"}, "invalid_field", "images.0.data", "not base64"),
        ({"data": "data:image/svg+xml,%3Csvg"}, "invalid_field", "images.0.data", "not base64"),
        ({"data": "data:;base64" + "x" * 300}, "invalid_field", "images.0.data", "not base64"),
        ("/9j/4AAQ", "image_is_text", "images.0", '{"data": "..."}'),
        ({"url": "https://example.org/x.jpg"}, "image_is_address", "images.0", "by design"),
    ],
)
def test_what_is_no_image_in_json_is_explained(
    client: TestClient, stub: Stub, image: Any, code: str, param: str, words: str
) -> None:
    answer = client.post("/predict?model=mobilenet_v2", json={"images": [image]})
    body = answer.json()
    first = {**body, "message": body["detail"], **(body["errors"] or [{}])[0]}
    assert answer.status_code == 422
    assert (first["code"], first["param"]) == (code, param)
    assert words in first["message"]
    assert not stub.bodies


@pytest.mark.usefixtures("stub")
def test_an_architecture_may_be_spelled_as_in_its_paper(
    client: TestClient, resources: Resources
) -> None:
    publish_model(resources, name="res-net18")
    for spelled, meant in (("ResNet-50", "resnet50"), ("MobileNet V2", "mobilenet_v2")):
        answer = client.post(f"/predict?model={spelled}", content=png(), headers=PNG)
        assert answer.json()["model"]["name"] == meant, answer.text
    own = client.post("/predict?model=res-net18", content=png(), headers=PNG)
    assert own.json()["model"]["name"] == "res-net18"


def test_images_in_json(client: TestClient, stub: Stub) -> None:
    images = [{"data": base64.b64encode(png()).decode(), "filename": "böse\n.png"}]
    answer = client.post("/predict", json={"images": images, "top_k": 2})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["name"] == "mobilenet_v2"  # The default.
    assert answer.json()["results"][0]["filename"] == "böse\n.png"
    assert stub.bodies == [png()]


def test_json_is_not_read_on_the_event_loop(
    client: TestClient, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noted(raw: bytes) -> Any:
        threads.append(threading.current_thread().name)
        return json.loads(raw)

    monkeypatch.setattr(prediction, "decode", noted)
    images = [{"data": base64.b64encode(png()).decode()}]
    assert client.post("/predict", json={"images": images}).status_code == 200
    assert len(stub.orders) == 1
    assert threads == ["AnyIO worker thread"]


def test_a_bad_image_does_not_spoil_the_others(client: TestClient, stub: Stub) -> None:
    files = [("file", ("a.png", png())), ("file", ("b.txt", b"no"))]
    answer = client.post("/predict", files=files)
    assert answer.status_code == 200
    good, bad = answer.json()["results"]
    assert (good["status"], bad["status"]) == ("ok", "error")
    assert bad["error"]["code"] == "image_undecodable"
    assert len(stub.orders) == 1


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("count", [1, 3])
def test_only_bad_images_are_422(client: TestClient, count: int) -> None:
    files = [("file", (f"{n}.txt", b"no")) for n in range(count)]
    answer = client.post("/predict", files=files)
    assert (answer.status_code, answer.json()["code"]) == (422, "image_undecodable")
    assert [error["param"] for error in answer.json()["errors"]] == [
        f"{n}.txt" for n in range(count)
    ]


def test_an_unknown_model_is_404_with_a_hint(client: TestClient, resources: Resources) -> None:
    publish_model(resources, "pets")
    for name, hint in (("pest", "pets"), ("mobilnet_v2", "mobilenet_v2"), ("pets@9", None),
                       ("pets@prod", None), ("lenet", "Fine-tune")):  # fmt: skip
        answer = client.post("/predict", files={"file": ("a", png())}, data={"model": name})
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (404, "model_not_found"), problem
        assert hint is None or hint in problem["hint"], problem


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "predict_queue_full"),
        (422, "weights_unavailable_offline"),
        (409, "integrity"),
        (507, "disk_full"),
    ],
)
def test_what_the_predictor_refuses_is_passed_on(
    client: TestClient, stub: Stub, status: int, code: str
) -> None:
    stub.status, stub.answer = status, {"code": code, "detail": "so it is", "hint": "do that"}
    answer = client.post("/predict", files={"file": ("a", png())})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert (problem["detail"], problem["hint"]) == ("so it is", "do that")
    assert ("Retry-After" in answer.headers) == (status in (503, 507))


def test_a_predictor_that_talks_nonsense_is_503(client: TestClient, stub: Stub) -> None:
    stub.status, stub.answer = 500, {"x": 1}
    assert client.post("/predict", files={"file": ("a", png())}).status_code == 503


def test_limits(settings: Settings, stub: Stub) -> None:
    small = settings.model_copy(update={"max_predict_bytes": 2000, "max_predict_images": 2})
    big, image = b"x" * 3000, {"Content-Type": "image/png"}
    text = base64.b64encode(big * 30).decode()
    with local_client(create_app(small)) as client:
        answers = [
            client.post("/predict", content=big, headers=image),
            client.post("/predict", content=iter([big[:1500], big[:1500]]), headers=image),
            client.post("/predict", files={"file": ("a", big)}),
            client.post("/predict", files=[("file", ("a", b"12345"))] * 3),
            client.post("/predict", json={"images": [{"data": text}]}),
        ]
    assert [answer.json()["code"] for answer in answers] == ["request_too_large"] * 5
    assert [answer.status_code for answer in answers] == [413] * 5
    assert stub.orders == []


@pytest.mark.parametrize(
    ("options", "status", "param"),
    [
        ({"data": {"model": "x"}, "files": {}}, 415, None),
        ({"files": {"picture": ("a", b"1")}}, 422, "picture"),
        ({"files": {"file": ("a", png())}, "data": {"topk": "1"}}, 422, "topk"),
        ({"files": {"file": ("a", png())}, "data": {"top_k": "0"}}, 422, "top_k"),
        ({"files": {"file": ("a", png())}, "data": {"top_k": "1e3"}}, 422, "top_k"),
        ({"files": {"file": ("", b"")}}, 400, "file"),
        ({"json": {"images": []}}, 422, "images"),
        ({"json": {"images": [{"data": "%%%"}]}}, 422, "images.0.data"),
        ({"json": {"images": [{"dat": "YQ=="}]}}, 422, "images.0"),
        ({"json": {"picture": "YQ=="}}, 422, "images"),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, None),
        ({"content": b"x"}, 415, None),
        ({"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data"}}, 400, None),
        (
            {
                "content": b"--b\r\nx",
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            400,
            None,
        ),
    ],
)
def test_a_wrong_request_is_named(
    client: TestClient, options: dict[str, Any], status: int, param: str | None
) -> None:
    answer = client.post("/predict", **options)
    problem = answer.json()
    assert answer.status_code == status, problem
    if param:
        assert problem["param"].startswith(param), problem
    json.dumps(problem)


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"content": b'{"images":[' + b"[]," * 60_000 + b"0]}"}, 413),
        ({"content": b'{"images":[' + b"0," * 90_000 + b"0]}"}, 413),
        ({"json": {"images": [], **{f"a{number}": 0 for number in range(20_000)}}}, 422),
        ({"json": {"images": [{f"a{number}": 0 for number in range(20_000)}] * 4}}, 422),
        ({"files": {f"a{number}": (None, b"") for number in range(2000)}}, 400),
    ],
)
def test_a_wrong_body_costs_no_multiple_of_itself(
    client: TestClient, options: dict[str, Any], status: int
) -> None:
    if "content" in options:
        options["headers"] = {"Content-Type": "application/json"}
    client.post("/predict", json={"images": 1})  # What is made once is there.
    sent = client.build_request("POST", "/predict", **options)
    size = len(sent.read())
    tracemalloc.start()
    try:
        answer = client.send(sent)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code == status, answer.text
    assert most < 25 * size


def test_no_more_errors_are_explained_than_are_told(client: TestClient) -> None:
    wrong = [{f"a{number}": 0 for number in range(40)} for _ in range(4)]
    problem = client.post("/predict", json={"images": wrong}).json()
    assert len(problem["errors"]) == 50
    assert "(and 163 more)" in problem["detail"]


def test_no_more_requests_are_held_than_the_queue_takes(settings: Settings, stub: Stub) -> None:
    small = settings.model_copy(update={"predict_queue": 1})
    headers = {"Content-Type": "image/png"}
    answers = []

    def ask() -> None:
        answers.append(client.post("/predict", content=png(), headers=headers).status_code)

    with local_client(create_app(small)) as client:
        stub.gate.clear()
        first = threading.Thread(target=ask)
        first.start()
        wait_for(lambda: stub.bodies)
        refused = client.post("/predict", content=png(), headers=headers)
        stub.gate.set()
        first.join()
        assert refused.status_code == 503
        assert refused.json()["code"] == "predict_queue_full"
        assert refused.headers["Retry-After"]
        ask()
    assert answers == [200, 200]
    assert len(stub.bodies) == 2
