"""Runs on long images: what is seen of them is one thing in training, evaluation and use."""

import io
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.system.run_dir import DONE, STOPPED
from models.data.dataset import StagedDataset
from models.data.sources import Indices
from models.inference.classifier import Classifier
from models.training.loop import Loop
from tests.models.running import go, outcome, read
from tests.models.staging import Labelled, request, stage


def long_image(split: str, name: str, seed: int) -> Labelled:
    """Noise of 96x32 whose class is the brightness of both ends, which no middle square has."""
    rng = np.random.default_rng([seed, *split.encode()])
    pixels = rng.integers(80, 176, (32, 96, 3), dtype=np.uint8)
    pixels[:, :16] = pixels[:, -16:] = 250 if name == "bright" else 5
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return split, name, out.getvalue()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [
        long_image(split, name, number)
        for split, size in (("train", 16), ("val", 16))
        for name in ("bright", "dark")
        for number in range(size)
    ]
    return stage(tmp_path_factory.mktemp("long") / "data", images)


def lenet(folder: Path, dataset: Path, **config: Any) -> Path:
    numbers = {"epochs": 4, "batch_size": 8}
    return request(folder, dataset, architecture="lenet", hyperparameters=numbers, **config)


def test_what_lies_at_the_ends_is_learned_and_served(tmp_path: Path, dataset: Path) -> None:
    run_dir = lenet(tmp_path / "run", dataset)
    assert go(run_dir) == DONE
    card = read(run_dir, "card.json")
    assert (card["plan"]["fit"]["value"], card["preprocess"]["fit"]) == ("pad", "pad")
    assert "64 of 64 images are longer than 2:1" in card["plan"]["fit"]["reason"]
    assert card["metrics"]["val"]["accuracy"] == 1.0
    classifier = Classifier.from_artefact(run_dir / "result")
    rows = map(json.loads, (run_dir / "result" / "predictions.jsonl").read_text().splitlines())
    judged = {row["path"]: row for row in rows}
    with closing(StagedDataset(dataset)) as staged:
        for sample in staged.splits["val"]:
            row = classifier.forward([classifier.decode(staged.read(sample))])[0]
            assert classifier.labels[int(row.argmax())].name == judged[sample.path]["label"]
            assert row.max() == pytest.approx(judged[sample.path]["confidence"], abs=1e-5)


def test_the_square_in_the_middle_knows_nothing_of_it(tmp_path: Path, dataset: Path) -> None:
    run_dir = lenet(tmp_path / "run", dataset, fit="crop")
    assert go(run_dir) == DONE
    card = read(run_dir, "card.json")
    assert card["preprocess"]["fit"] == "crop"
    assert card["metrics"]["val"]["accuracy"] < 0.9


def test_a_run_that_was_broken_off_sees_the_same_views(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned views of images that are kept whole; half of those are lost with the cache."""
    straight, broken = (
        lenet(tmp_path / name, dataset, augmentation="light", limits={}) for name in ("a", "b")
    )
    assert go(straight) == DONE
    plain = Loop.step

    def one_step(loop: Loop, indices: Indices) -> None:
        plain(loop, indices)
        loop.fit.run.stopping = loop.steps_done == 6

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", one_step)
        assert go(broken) == STOPPED
    shutil.rmtree(broken / "cache")
    assert go(broken) == DONE
    assert outcome(broken) == outcome(straight)
