"""Pictures of more than 8 bits: what is white in training is white in predictions."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from core.system.run_dir import DONE
from models.inference.classifier import Classifier
from tests.models.running import go, read
from tests.models.staging import png, request, stage


def test_twelve_bits_in_sixteen_are_trained_on_and_asked_about_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = []
    for number in range(24):
        samples = rng.integers(0, 1200, (32, 32)).astype(np.uint16)
        samples[:, : 16 * (number % 2 + 1)] += 2800
        split = "val" if number < 8 else "train"
        images.append((split, ("half", "whole")[number % 2], png(samples)))
    data = stage(tmp_path / "data", images)
    summary = json.loads((data / "dataset.json").read_text())
    summary["sixteen_bit"] = {"images": 24, "largest": 3999, "white": 65_535}
    (data / "dataset.json").write_text(json.dumps(summary))
    short = {"epochs": 2}
    run_dir = request(tmp_path / "run", data, architecture="lenet", hyperparameters=short)
    assert go(run_dir) == DONE
    assert read(run_dir, "card.json")["preprocess"]["white"] == 4095
    classifier = Classifier.from_artefact(run_dir / "result")
    crop = classifier.decode(images[0][2])
    assert crop.max() > 200
    rows = (run_dir / "result" / "predictions.jsonl").read_text().splitlines()
    told = {row["sha256"]: row for row in map(json.loads, rows)}
    for _, _, content in images[:8]:
        answer = classifier.rank(classifier.forward([classifier.decode(content)])[0], 1)
        evaluated = told[hashlib.sha256(content).hexdigest()]
        assert (answer["label"], answer["confidence"]) == (
            evaluated["label"], pytest.approx(evaluated["confidence"], abs=1e-5)
        )  # fmt: skip
