import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.meter import Meter
from core.rundir import RunDir, Stopped
from models.data import Staged
from models.evaluate import evaluate, headlines
from models.predict import Classifier, Label
from models.preprocess import Preprocess
from tests.models.staging import png, stage

PLAIN = Preprocess(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Brightness:
    """An engine that calls bright images `bright` and others `dark`; `grey` is never said."""

    nbytes = 0

    def __call__(self, batch: Tensor) -> Tensor:
        level = 10 * (batch.mean((1, 2, 3)) - 0.5)
        return torch.stack([level, -level, torch.full_like(level, -50.0)], 1)


def flat(value: int) -> bytes:
    return png(np.full((8, 8, 3), value, np.uint8))


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[Staged]:
    images = [
        ("train", "grey", flat(128)),
        ("val", "bright", flat(250)),
        ("val", "bright", flat(10)),  # Wrongly labelled on purpose.
        ("val", "dark", flat(20)),
        ("test", "dark", flat(30)),
    ]
    opened = Staged(stage(tmp_path / "data", images, classes=["bright", "dark", "grey"]))
    yield opened
    opened.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    opened = RunDir(tmp_path)
    yield opened
    opened.events.close()


def scores(run: RunDir, staged: Staged) -> dict[str, dict[str, object]]:
    classifier = Classifier(Brightness(), PLAIN, [Label(name) for name in staged.classes])
    meter = Meter(run.events, {"evaluate": (4, 1.0)})
    return evaluate(run, staged, classifier, run.begin_result(), threads=2, meter=meter)


def test_every_held_out_split_is_scored_and_training_is_not(run: RunDir, staged: Staged) -> None:
    found = scores(run, staged)
    assert found.keys() == {"val", "test"}
    assert found["val"]["accuracy"] == pytest.approx(2 / 3)
    assert found["val"]["confusion"]["matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]  # type: ignore[index]
    assert found["test"]["accuracy"] == 1.0
    assert json.loads((run.path / "result.tmp" / "evaluation.json").read_text()) == found


def test_every_image_has_its_line(run: RunDir, staged: Staged) -> None:
    scores(run, staged)
    text = (run.path / "result.tmp" / "predictions.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["split"], row["class"], row["label"]) for row in rows] == [
        ("val", "bright", "bright"),
        ("val", "bright", "dark"),
        ("val", "dark", "dark"),
        ("test", "dark", "dark"),
    ]
    assert all(0.5 < row["confidence"] <= 1 for row in rows)


def test_the_card_gets_the_headlines(run: RunDir, staged: Staged) -> None:
    lines = headlines(scores(run, staged))
    assert lines["test"]["macro_f1"] == 1.0
    assert lines["val"].keys() == {
        "accuracy",
        "log_loss",
        "ece",
        "top_k",
        "macro_f1",
        "images",
    }


def test_a_wish_to_stop_is_heard(run: RunDir, staged: Staged) -> None:
    run.stopping = True
    with pytest.raises(Stopped):
        scores(run, staged)
