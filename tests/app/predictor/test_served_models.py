"""Models that a predictor loads: whole, unchanged, and within its memory."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.predictor import service
from app.predictor.metrics import Measures
from app.predictor.service import Predictor
from core.system.settings import Settings
from models.inference import artefact
from tests.app.predictor.orders import Stored, order, png, trial
from tests.app.trained import store_served
from tests.models.publishing import known_images
from topwork.errors import IntegrityError, WeightsUnavailable


def test_a_model_that_is_pushed_out_comes_back(stored: Stored, tmp_path: Path) -> None:
    models = [stored[1](seed) for seed in (1, 2, 3)]
    measures = Measures()
    first: dict[str, Any] = {}

    async def work(predictor: Predictor) -> None:
        for _ in range(2):
            for model in models:
                answer = await predictor.predict(*order(model, png()))
                known = first.setdefault(model["digest"], answer["results"])
                assert answer["results"] == known

    trial(stored, tmp_path, work, measures, model_cache_bytes=600_000)
    assert len({json.dumps(result) for result in first.values()}) == 3
    assert "topwork_predictor_models 2.0" in measures.text().decode()


def test_known_images_take_room_too(stored: Stored, tmp_path: Path) -> None:
    """Two networks fit beside each other; with the images of one of them they do not."""
    careful = stored[1](4, known=known_images(2000), rejection={"neighbours": 1})
    plain, measures = stored[1](5), Measures()

    async def work(predictor: Predictor) -> None:
        for model in (careful, plain):
            await predictor.predict(*order(model, png()))

    trial(stored, tmp_path, work, measures, model_cache_bytes=600_000)
    assert "topwork_predictor_models 1.0" in measures.text().decode()


@pytest.mark.parametrize("name", [artefact.GRAPH, artefact.REJECTION])
def test_a_model_without_a_file_of_its_manifest_is_not_served(
    stored: Stored, tmp_path: Path, name: str
) -> None:
    """Without its known images it would rely on each answer, and nobody would notice."""
    storage, make = stored
    model = (
        store_served(storage, tmp_path / "made")
        if name == artefact.GRAPH
        else make(4, known=known_images(10), rejection={"neighbours": 1})
    )
    storage.delete(f"{model['prefix']}/{name}")

    async def work(predictor: Predictor) -> None:
        with pytest.raises(IntegrityError, match=name):
            await predictor.predict(*order(model, png()))

    trial(stored, tmp_path, work)


def test_a_copy_that_was_damaged_here_is_fetched_again(stored_far: Stored, tmp_path: Path) -> None:
    model = stored_far[1]()
    copy = tmp_path / "cache" / "models" / model["files"][artefact.CARD]["sha256"]

    async def work(predictor: Predictor) -> None:
        await predictor.predict(*order(model, png()))

    trial(stored_far, tmp_path, work)
    (copy / artefact.WEIGHTS).write_bytes(b"damaged")
    trial(stored_far, tmp_path, work)
    assert artefact.load(copy)


@pytest.mark.parametrize("where", ["stored", "stored_far"])
def test_a_file_that_changes_under_a_loaded_model_changes_no_answer(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    kept: Stored = request.getfixturevalue(where)
    model = kept[1]()
    folder = kept[0].local_path(model["prefix"])
    folder = folder or tmp_path / "cache" / "models" / model["files"][artefact.CARD]["sha256"]

    async def work(predictor: Predictor) -> None:
        path = folder / artefact.WEIGHTS
        first = (await predictor.predict(*order(model, png())))["results"]
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\0" * (path.stat().st_size // 2))
        assert (await predictor.predict(*order(model, png())))["results"] == first
        os.truncate(path, 0)
        assert (await predictor.predict(*order(model, png())))["results"] == first

    trial(kept, tmp_path, work)


@pytest.mark.parametrize("name", [artefact.WEIGHTS, artefact.CARD])
def test_an_object_that_was_changed_in_place_is_not_served(
    stored: Stored, tmp_path: Path, name: str
) -> None:
    storage, make = stored
    model = make()
    path = storage.local_path(f"{model['prefix']}/{name}")
    assert path is not None
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    with path.open("r+b") as file:
        file.write(data)

    async def work(predictor: Predictor) -> None:
        with pytest.raises(IntegrityError):
            await predictor.predict(*order(model, png()))

    trial(stored, tmp_path, work)
    assert path.read_bytes() == data


def test_a_card_that_names_other_weights_than_the_manifest_is_refused(
    stored: Stored, tmp_path: Path
) -> None:
    model, other = stored[1](1), stored[1](2)
    model["files"][artefact.WEIGHTS] = other["files"][artefact.WEIGHTS]

    async def work(predictor: Predictor) -> None:
        with pytest.raises(IntegrityError, match="other weights"):
            await predictor.predict(*order(model, png()))

    trial(stored, tmp_path, work)


def test_models_that_cannot_be_loaded_say_why(stored: Stored, tmp_path: Path) -> None:
    storage, make = stored
    model = make()
    storage.delete(f"{model['prefix']}/{artefact.WEIGHTS}")

    async def work(predictor: Predictor) -> None:
        with pytest.raises(IntegrityError):
            await predictor.predict(*order(model, png()))
        published = {"kind": "imagenet", "architecture": "resnet18"}
        with pytest.raises(WeightsUnavailable):
            await predictor.predict(*order(published, png()))

    trial(stored, tmp_path, work)


def test_the_default_model_is_loaded_before_anyone_asks(
    stored: Stored, tmp_path: Path, shared: Path
) -> None:
    measures = Measures()

    async def work(predictor: Predictor) -> None:
        await predictor.warm("no such network")
        await predictor.warm("resnet18")
        assert "topwork_predictor_models 0.0" in measures.text().decode()
        await predictor.warm("mobilenet_v2")
        assert "topwork_predictor_models 1.0" in measures.text().decode()
        assert "topwork_predict_batch_images_count 1.0" in measures.text().decode()

    trial(stored, tmp_path, work, measures, weights_dir=shared / "weights")


def test_damaged_weights_of_the_default_model_do_not_stop_the_start(
    stored: Stored, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mobilenet_v2.safetensors").write_bytes(b"damaged")
    measures = Measures()

    async def work(predictor: Predictor) -> None:
        await predictor.warm("mobilenet_v2")

    trial(stored, tmp_path, work, measures)
    assert "topwork_predictor_models 0.0" in measures.text().decode()


def test_models_take_at_most_half_of_the_memory(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[int] = []
    monkeypatch.setattr(service, "memory", lambda: 3 << 30)
    monkeypatch.setattr(service, "ModelCache", lambda _weigh, most: bounds.append(most))

    async def make() -> None:
        for most in (1 << 30, 2 << 30):
            settings = Settings(data_dir=tmp_path, model_cache_bytes=most)
            await Predictor(settings, stored[0], Measures()).close()

    asyncio.run(make())
    assert bounds == [1 << 30, 3 << 29]
