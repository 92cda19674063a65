"""What stands between an order and its answers: places in the queue, patience, and times."""

import asyncio
import io
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.predictor import decoding
from app.predictor.metrics import Measures
from app.predictor.service import Predictor, Timings
from models.inference import artefact
from models.inference.rejection import Rejection, Thresholds
from tests.app.predictor.orders import Stored, order, png, trial
from tests.app.trained import put_model, store_model, store_served
from tests.models.publishing import known_images
from topwork.errors import ImageTooLarge, PredictorBusy


def test_the_queue_has_a_fixed_number_of_places(stored: Stored, tmp_path: Path) -> None:
    async def work(predictor: Predictor) -> None:
        await asyncio.sleep(0)

        def place(images: int, owner: str = "anna") -> AbstractContextManager[None]:
            return predictor.admitted(owner, images)

        with place(3):
            with place(1), pytest.raises(PredictorBusy), place(1):
                pass
            with place(1), place(9, "bert"), pytest.raises(PredictorBusy), place(1, "bert"):
                pass
            with place(1):
                pass
        with place(9), pytest.raises(PredictorBusy), place(1):
            pass

    trial(stored, tmp_path, work, predict_queue=4)


def test_limits_of_the_settings_hold(stored: Stored, tmp_path: Path) -> None:
    model = stored[1]()

    async def work(predictor: Predictor) -> None:
        answer = await predictor.predict(*order(model, png()))
        (result,) = answer["results"]
        assert result["status"] == "error"
        assert result["error"]["code"] == ImageTooLarge.code
        assert "256 x 256" in result["error"]["message"]

    trial(stored, tmp_path, work, max_image_pixels=65_535)


def test_answers_say_what_they_are_about(stored: Stored, tmp_path: Path) -> None:
    model = stored[1](calibration={"temperature": 1.5})
    measures = Measures()

    async def work(predictor: Predictor) -> None:
        answer = await predictor.predict(*order(model, png(), b"no", png(9), top_k=2))
        names = [result["filename"] for result in answer["results"]]
        assert names == ["0.png", "1.png", "2.png"]
        good, bad, also = answer["results"]
        assert good["status"] == also["status"] == "ok"
        assert set(good) == {
            *("filename", "status", "decision", "reason", "label"),
            *("confidence", "similarity", "predictions"),
        }
        assert len(good["predictions"]) == 2
        assert set(bad) == {"filename", "status", "error"}
        assert set(bad["error"]) == {"code", "message", "hint"}
        assert answer["model"]["sha256"] == model["files"][artefact.WEIGHTS]["sha256"]
        assert set(answer["timing_ms"]) == {"load", "decode", "queue", "forward"}
        assert all(spent >= 0 for spent in answer["timing_ms"].values())
        again = await predictor.predict(*order(model, png()))
        assert again["timing_ms"]["load"] < answer["timing_ms"]["load"]

    trial(stored, tmp_path, work, measures)
    text = measures.text().decode()
    assert 'topwork_predict_images_total{outcome="ok"} 3.0' in text
    assert 'topwork_predict_images_total{outcome="image_undecodable"} 1.0' in text
    assert "topwork_predictor_models 1.0" in text


def test_answers_are_calibrated_as_the_card_says(stored: Stored, tmp_path: Path) -> None:
    """Of one network with three cards: temperature 2 takes the root of each plain probability."""
    cards: list[dict[str, Any]] = [{}, {"calibration": None}, {"calibration": {"temperature": 2.0}}]
    models = []
    for number, card in enumerate(cards):
        store_model(stored[0], tmp_path / f"{number}", **card)
        models.append(put_model(stored[0], tmp_path / f"{number}", f"models/card{number}/1"))
    assert len({model["digest"] for model in models}) == 1
    answers: list[list[dict[str, Any]]] = []

    async def work(predictor: Predictor) -> None:
        for model in models:
            answer = await predictor.predict(*order(model, png()))
            answers.append(answer["results"][0]["predictions"])

    trial(stored, tmp_path, work)
    plain, uncalibrated, soft = answers
    assert uncalibrated == plain
    assert [one["label"] for one in soft] == [one["label"] for one in plain]
    roots = [one["confidence"] ** 0.5 for one in plain]
    expected = [root / sum(roots) for root in roots]
    assert [one["confidence"] for one in soft] == pytest.approx(expected, abs=1e-9)
    assert soft[0]["confidence"] < plain[0]["confidence"]


SERVE = """
import asyncio, sys
from pathlib import Path
from app.predictor.metrics import Measures
from app.predictor.service import Predictor
from app.predictor_protocol import Order
from core.store.object_store import Storage
from core.system.settings import Settings

async def serve() -> None:
    order, body, storage, data = sys.argv[1:]
    settings = Settings(data_dir=Path(data), offline=True)
    predictor = Predictor(settings, Storage(storage), Measures())
    answer = await predictor.predict(
        Order.model_validate_json(order), Path(body).read_bytes()
    )
    print(answer["results"][0]["label"])
    await predictor.close()

import app.predictor.__main__
asyncio.run(serve())
sys.exit("torch" in sys.modules)
"""


def test_a_predictor_that_needs_no_torch_loads_none(stored: Stored, tmp_path: Path) -> None:
    """Most of its memory and of the time to its first answer would be torch's."""
    storage, _ = stored
    asked, body = order(store_served(storage, tmp_path / "made"), png())
    (tmp_path / "body").write_bytes(body)
    place = f"file://{tmp_path}/objects"
    told = subprocess.run(
        [sys.executable, "-c", SERVE, asked.model_dump_json(), str(tmp_path / "body"), place,
         str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[-1] in ("ant", "bee", "cicada")


def test_thresholds_are_computed_once_and_not_by_the_loop(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take a quarter of a second of a large model, in which nobody else would be answered."""
    model = stored[1](4, known=known_images(10), rejection={"neighbours": 1})
    computed: list[tuple[float, bool]] = []
    compute = Rejection.thresholds

    def seen(self: Rejection, coverage: float) -> Thresholds:
        computed.append((coverage, threading.current_thread() is threading.main_thread()))
        return compute(self, coverage)

    monkeypatch.setattr(Rejection, "thresholds", seen)

    async def work(predictor: Predictor) -> None:
        for reject in ("auto", 0.8, "none", 0.8, "auto"):
            answer = await predictor.predict(*order(model, png(), reject=reject))
            assert ("coverage" in answer["model"]["rejection"]) == (reject != "none")

    trial(stored, tmp_path, work)
    assert computed == [(0.95, False), (0.8, False)]


def test_large_images_of_one_owner_hold_up_nobody_else(stored: Stored, tmp_path: Path) -> None:
    model = stored[1]()
    out = io.BytesIO()
    Image.new("RGB", (4000, 2500), (9, 99, 9)).save(out, "WEBP", method=0)
    large = out.getvalue()

    async def work(predictor: Predictor) -> None:
        await predictor.predict(*order(model, png()))
        asked, body = order(model, *[large] * 4)
        flood = asyncio.create_task(
            predictor.predict(asked.model_copy(update={"owner": "anna"}), body)
        )
        await asyncio.sleep(0)
        for _ in range(3):
            answer = await predictor.predict(*order(model, png()))
            assert answer["results"][0]["status"] == "ok"
            assert not flood.done()
        assert {result["status"] for result in (await flood)["results"]} == {"ok"}

    trial(stored, tmp_path, work)


def test_a_request_whose_images_are_not_begun_in_time_is_refused_as_a_whole(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stored[1]()
    monkeypatch.setattr(decoding, "PATIENCE_SECONDS", 0.0)

    async def work(predictor: Predictor) -> None:
        with pytest.raises(PredictorBusy):
            await predictor.predict(*order(model, *[png()] * 50))

    trial(stored, tmp_path, work)


def test_times_of_stages_add_up() -> None:
    timings = Timings(10.0)
    timings.decoded = 12.0
    timings.passes |= {(13.0, 14.0), (13.0, 14.0), (14.0, 14.5)}
    assert timings.parts(15.0) == {"decode": 2.0, "queue": 1.5, "forward": 1.5}
    assert Timings(1.0).parts(1.0) == {"decode": 0.0, "queue": 0.0, "forward": 0.0}
