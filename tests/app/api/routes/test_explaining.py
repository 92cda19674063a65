"""What is to be explained, on its way to the predictor, and what cannot be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from core.store.resources import Resources
from core.system.settings import Settings
from tests.app.api.routes.predictor import Stub, standing_in
from tests.app.apiclient import png, publish_dataset, publish_model

PNG = {"Content-Type": "image/png"}
NETWORK = {"architecture": "nin", "engine": {"name": "onnxruntime", "heatmap": True}}
HEAT = {
    "label": "cat", "index": 0, "method": "cam", "cells": [[0.5, 1.5]], "bias": 1.0, "margin": 2.0,
    "box": {"left": 0.0, "top": 0.25, "right": 1.0, "bottom": 0.75}, "width": 16, "height": 32,
    "png": "iVBORw0KGgo=", "overlay": None,
}  # fmt: skip


@pytest.fixture
def stub(settings: Settings) -> Iterator[Stub]:
    with standing_in(settings) as made:
        guess = {"label": "cat", "index": 0, "confidence": 0.9}
        result = {"status": "ok", "filename": "", "label": "cat", "confidence": 0.9}
        made.answer = {
            "results": [{**result, "predictions": [guess], "heatmap": HEAT}],
            "timing_ms": {},
            "model": {},
        }
        yield made


def test_a_heat_map_is_asked_for_in_any_body(
    client: TestClient, stub: Stub, resources: Resources
) -> None:
    publish_model(resources, more=NETWORK)
    answer = client.post("/predict?model=pets&explain=heatmap", content=png(), headers=PNG)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["heatmap"] == HEAT
    assert answer.json()["model"]["heatmap"] is True
    form = {"explain": "heatmap", "explain_class": "dog", "explain_overlay": "true"}
    client.post("/predict", files=[("file", ("a.png", png()))], data={"model": "pets", **form})
    client.post("/predict?model=pets", content=png(), headers=PNG)
    asked = [order.explain and order.explain.model_dump() for order in stub.orders]
    assert asked == [{"index": None, "overlay": False}, {"index": 1, "overlay": True}, None]


@pytest.mark.parametrize(
    ("query", "param", "hint"),
    [
        ("explain=heatmap&explain_class=cats", "explain_class", "cat"),
        ("explain=saliency", "explain", "heatmap"),
        ("explain_class=cat", "explain_class", "explain=heatmap"),
        ("explain_overlay=true", "explain_overlay", "explain=heatmap"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    client: TestClient, stub: Stub, resources: Resources, query: str, param: str, hint: str
) -> None:
    publish_model(resources, more=NETWORK)
    answer = client.post(f"/predict?model=pets&{query}", content=png(), headers=PNG)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert (problem["code"], problem["param"]) == ("invalid_field", param)
    assert hint in f"{problem['detail']} {problem['hint']}"
    assert stub.orders == []


@pytest.mark.parametrize(
    "card", [{"architecture": "lenet"}, {**NETWORK, "engine": {"name": "onnxruntime"}}]
)
def test_a_model_without_heat_maps_says_so_first(
    client: TestClient, stub: Stub, resources: Resources, card: dict[str, Any]
) -> None:
    publish_model(resources, more=card)
    answer = client.post("/predict?model=pets&explain=heatmap", content=png(), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (422, "heatmap_unsupported")
    assert "GET /architectures" in answer.json()["hint"]
    assert stub.orders == []
    assert client.get("/models/pets/versions/1").json()["heatmap"] is False


def test_imagenet_s_classes_have_labels_and_ids(client: TestClient, stub: Stub) -> None:
    def asked(name: str) -> Any:
        query = f"model=mobilenet_v2&explain=heatmap&explain_class={name}"
        return client.post(f"/predict?{query}", content=png(), headers=PNG)

    assert asked("n01440764").status_code == asked("tench").status_code == 200
    assert [order.explain and order.explain.index for order in stub.orders] == [0, 0]
    strange = asked("vnrzhqw").json()
    assert "names the classes" in strange["hint"]


def test_an_evaluated_image_is_explained(
    client: TestClient, stub: Stub, resources: Resources, tmp_path: Path
) -> None:
    dataset = publish_dataset(resources, tmp_path / "images")
    publish_model(resources, more={**NETWORK, "dataset": {"id": dataset.id, "version": 1}})
    image = client.get(f"/datasets/{dataset.id}/versions/1/images").json()["data"][3]
    place = f"/models/pets/versions/1/predictions/{image['sha256']}/heatmap"
    answer = client.get(place, params={"explain_class": "dog", "explain_overlay": True})
    assert answer.status_code == 200, answer.text
    assert answer.json() == HEAT
    (order,) = stub.orders
    assert order.explain is not None
    assert order.explain.model_dump() == {"index": 1, "overlay": True}
    content = client.get(f"/datasets/{dataset.id}/versions/1/images/{image['sha256']}/content")
    assert stub.bodies == [content.content]
    assert client.get(place.replace(image["sha256"], "0" * 64)).status_code == 404
    wrong = client.get(place, params={"explain_class": "cow"})
    assert (wrong.status_code, wrong.json()["param"]) == (422, "explain_class")


def test_images_that_are_not_here_are_not_explained(
    client: TestClient, stub: Stub, resources: Resources
) -> None:
    publish_model(resources, more=NETWORK)
    answer = client.get(f"/models/pets/versions/1/predictions/{'0' * 64}/heatmap")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert stub.orders == []
