"""`topwork predict --explain`, and the client's heat maps, from a real api."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import structlog
from PIL import Image
from typer.testing import CliRunner

from app.api.main import create_app
from app.cli import program
from core.store.resources import Resources
from core.system.settings import Settings
from tests.app.api.routes.predictor import Stub, standing_in
from tests.app.apiclient import png, publish_dataset, publish_model, served
from topwork import Topwork

NETWORK = {"architecture": "nin", "engine": {"name": "onnxruntime", "heatmap": True}}
BOX = {"left": 0.0, "top": 0.25, "right": 1.0, "bottom": 0.75}


def picture(side: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def stub(settings: Settings) -> Iterator[Stub]:
    heat = {
        "label": "cat", "index": 0, "method": "cam", "cells": [[0.5]], "bias": 1.0, "margin": 1.5,
        "box": BOX, "width": 16, "height": 32, "png": picture(8), "overlay": picture(20),
    }  # fmt: skip
    guess = {"label": "cat", "index": 0, "confidence": 0.9}
    result = {"status": "ok", "filename": "x.png", "label": "cat", "confidence": 0.9}
    explained = {**result, "predictions": [guess], "heatmap": heat}
    with standing_in(settings) as made:
        made.answer = {"results": [explained, explained], "timing_ms": {}, "model": {}}
        yield made


@pytest.fixture
def url(settings: Settings, resources: Resources, stub: Stub) -> Iterator[str]:
    assert stub.orders == []
    publish_model(resources, more=NETWORK)
    with served(create_app(settings)) as url, structlog.testing.capture_logs():
        yield url


def test_pictures_are_written_under_the_images_names(
    url: str, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_URL", url)
    images = [tmp_path / "one" / "x.png", tmp_path / "two" / "x.png"]
    for path in images:
        path.parent.mkdir()
        path.write_bytes(png())
    folder = tmp_path / "maps"
    words = ["predict", "pets", *map(str, images), "--explain", str(folder)]
    told = CliRunner().invoke(program, [*words, "--explain-class", "dog"])
    assert told.exit_code == 0, told.output
    (order,) = stub.orders
    assert order.explain is not None
    assert order.explain.model_dump() == {"index": 1, "overlay": True}
    assert {path.name for path in folder.iterdir()} == {"x.heatmap.png", "x-1.heatmap.png"}
    with Image.open(folder / "x.heatmap.png") as drawn:
        assert drawn.size == (20, 20)


def test_what_would_explain_nothing_is_refused(tmp_path: Path) -> None:
    for words in (("--explain-class", "dog", "x.png"), ("--explain", "maps", str(tmp_path))):
        told = CliRunner().invoke(program, ["predict", "pets", *words])
        assert told.exit_code == 2
        assert words[0] in told.output


def test_the_client_explains_what_is_sent_and_what_was_evaluated(
    url: str, stub: Stub, resources: Resources, tmp_path: Path
) -> None:
    dataset = publish_dataset(resources, tmp_path / "images")
    publish_model(resources, more={**NETWORK, "dataset": {"id": dataset.id, "version": 1}})
    images = httpx2.get(f"{url}/datasets/{dataset.id}/versions/1/images").json()["data"]
    sha256 = images[0]["sha256"]
    with Topwork(url) as topwork:
        sent = topwork.predict(png(), model="pets", explain="heatmap", explain_class="dog")
        kept = topwork.models.heatmap("pets", 2, sha256)
    assert sent[0].heatmap == kept
    assert kept.box.top == 0.25
    asked = [order.explain and order.explain.model_dump() for order in stub.orders]
    assert asked == [{"index": 1, "overlay": False}, {"index": None, "overlay": False}]
    kept.overlay = None
    kept.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as drawn:
        assert drawn.size == (8, 8)
