import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.system.progress import Meter
from core.system.run_dir import RunDir, Stopped
from models.data.dataset import StagedDataset
from models.evaluation.calibrate import Calibration
from models.evaluation.evaluate import Evaluation, Said, evaluate, held_out_outputs, worst
from models.inference.classifier import Classifier, Crops, Label
from models.inference.outputs import Mapped, Outputs
from models.inference.preprocess import Preprocess
from tests.models.staging import png, stage
from topwork import types
from topwork.errors import IntegrityError

PLAIN_ANSWERS = Calibration(reason="for want of images")
PLAIN = Preprocess(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Brightness:
    """An engine that calls bright images `bright` and others `dark`; `grey` is never said."""

    nbytes = 0
    has_maps = False
    head = None

    def __call__(self, crops: Crops) -> NDArray[np.float32]:
        level = 10 * (crops.mean((1, 2, 3)) / 255 - 0.5)
        rows = np.stack([level, -level, np.full_like(level, -50.0)], 1)
        return rows.astype(np.float32)

    def outputs(self, crops: Crops) -> Outputs:
        return Outputs(self(crops), crops.mean((2, 3)).astype(np.float32))

    def mapped(self, crops: Crops) -> Mapped:
        raise NotImplementedError


def flat(value: int) -> bytes:
    return png(np.full((8, 8, 3), value, np.uint8))


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[StagedDataset]:
    images = [
        ("train", "grey", flat(128)),
        ("val", "bright", flat(250)),
        ("val", "bright", flat(10)),  # Wrongly labelled on purpose.
        ("val", "dark", flat(20)),
        ("test", "dark", flat(30)),
    ]
    opened = StagedDataset(stage(tmp_path / "data", images, classes=["bright", "dark", "grey"]))
    yield opened
    opened.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    opened = RunDir(tmp_path)
    yield opened
    opened.events.close()


def brightness(staged: StagedDataset) -> Classifier:
    return Classifier(Brightness(), PLAIN, [Label(name) for name in staged.classes])


def answers(
    run: RunDir, staged: StagedDataset, known: dict[str, Said] | None = None
) -> dict[str, Said]:
    meter = Meter(run.events, {"evaluate": (4, 1.0)})
    classifier = brightness(staged)
    return held_out_outputs(run, staged, classifier, threads=2, meter=meter, known=known)


def scores(
    run: RunDir, staged: StagedDataset, calibration: Calibration = PLAIN_ANSWERS
) -> Evaluation:
    """Score, and leave the files in the result that is being built."""
    logits = {split: said.logits for split, said in answers(run, staged).items()}
    evidence = logits["val"], staged.labels("val")
    evaluation = evaluate(staged, logits, calibration, seed=3, evidence=evidence)
    evaluation.write(run.begin_result(), staged)
    return evaluation


def confidence(level: int, temperature: float = 1.0) -> float:
    """What the engine's answer to one grey image comes to, worked out by hand."""
    logit = 10 * (level / 255 - 0.5) / temperature
    third = math.exp(-50 / temperature)
    return math.exp(abs(logit)) / (math.exp(logit) + math.exp(-logit) + third)


def test_every_held_out_split_is_scored_and_training_is_not(
    run: RunDir, staged: StagedDataset
) -> None:
    found = scores(run, staged).scores
    assert found.keys() == {"val", "test"}
    assert found["val"]["accuracy"] == pytest.approx(2 / 3)
    assert found["val"]["confusion"]["matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found["test"]["accuracy"] == 1.0
    assert json.loads((run.path / "result.tmp" / "evaluation.json").read_text()) == found


def test_logits_from_features_count_only_where_the_network_agrees(
    run: RunDir, staged: StagedDataset
) -> None:
    right = answers(run, staged)
    close, wrong = (
        right[split]._replace(logits=right[split].logits + gap)
        for split, gap in (("val", 1e-5), ("test", 0.1))
    )
    found = answers(run, staged, {"val": close, "test": wrong})
    assert torch.equal(found["val"].logits, close.logits)
    assert torch.equal(found["test"].logits, right["test"].logits)
    assert torch.equal(found["test"].features, right["test"].features)


def test_every_image_has_its_line(run: RunDir, staged: StagedDataset) -> None:
    scores(run, staged, Calibration(4.0, 60))
    text = (run.path / "result.tmp" / "predictions.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["split"], row["class"], row["label"]) for row in rows] == [
        ("val", "bright", "bright"),
        ("val", "bright", "dark"),
        ("val", "dark", "dark"),
        ("test", "dark", "dark"),
    ]
    served = [confidence(level, 4.0) for level in (250, 10, 20, 30)]
    assert [row["confidence"] for row in rows] == pytest.approx(served, abs=1e-6)


def test_the_card_gets_the_headlines(run: RunDir, staged: StagedDataset) -> None:
    lines = scores(run, staged).headlines()
    assert lines["test"]["macro_f1"] == 1.0
    assert lines["val"].keys() == {
        "accuracy",
        "log_loss",
        "ece",
        "top_k",
        "macro_f1",
        "images",
        "out_of_fold",
    }


def test_a_wish_to_stop_is_heard(run: RunDir, staged: StagedDataset) -> None:
    run.stopping = True
    with pytest.raises(Stopped):
        scores(run, staged)


def test_scores_are_those_of_the_calibrated_answers(run: RunDir, staged: StagedDataset) -> None:
    found = scores(run, staged, Calibration(4.0, 60)).scores
    true = [confidence(250, 4.0), 1 - confidence(10, 4.0), confidence(20, 4.0)]
    loss = -sum(map(math.log, true)) / 3
    assert found["val"]["log_loss"] == pytest.approx(loss, abs=1e-4)  # The third class has 1e-5.
    trust = found["val"]["calibration"]
    assert (trust["temperature"], trust["reason"]) == (4.0, None)
    assert trust["after"]["log_loss"] == found["val"]["log_loss"]
    plain = scores(run, staged).scores["val"]
    assert plain["calibration"]["before"] == plain["calibration"]["after"] == trust["before"]
    assert plain["calibration"]["reason"] == "for want of images"
    assert plain["confusion"] == found["val"]["confusion"]


def test_every_field_of_an_evaluation_is_in_its_shape(run: RunDir, staged: StagedDataset) -> None:
    scores(run, staged)
    stored = json.loads((run.path / "result.tmp/evaluation.json").read_text())
    shape = types.Evaluation.model_validate({"splits": stored}, extra="forbid")
    assert {name: split.to_dict() for name, split in shape.splits.items()} == stored
    lines = (run.path / "result.tmp/predictions.jsonl").read_text().splitlines()
    for line in lines:
        image = types.EvaluatedImage.model_validate_json(line, extra="forbid")
        assert image.to_dict() == json.loads(line)


def test_intervals_come_from_the_seed(run: RunDir, staged: StagedDataset) -> None:
    found = scores(run, staged).scores
    assert found["val"]["intervals"]["seed"] == 3
    assert found["val"]["intervals"]["macro_f1"] == {"low": 0.0, "high": 1.0}
    one_right_of_one = found["test"]["intervals"]
    assert one_right_of_one["accuracy"] == {"low": pytest.approx(0.2065, abs=1e-4), "high": 1.0}
    assert one_right_of_one["macro_f1"] == one_right_of_one["accuracy"]


def test_the_wrong_answer_is_listed_with_its_image(run: RunDir, staged: StagedDataset) -> None:
    found = scores(run, staged).scores
    sample = staged.splits["val"][1]
    assert found["val"]["errors"] == [
        {
            "sha256": sample.sha256,
            "path": sample.path,
            "true": "bright",
            "predicted": "dark",
            "confidence": pytest.approx(confidence(10), abs=1e-6),
            "loss": pytest.approx(-math.log(1 - confidence(10)), abs=1e-4),
        }
    ]
    assert found["test"]["errors"] == []


def test_the_worst_fifty_errors_come_worst_first(staged: StagedDataset) -> None:
    """80 answers, the first 20 of them right although they have the greatest loss."""
    (bright, *_), classes = staged.splits["val"], staged.classes
    samples = [replace(bright, path=str(number)) for number in range(80)]
    served = torch.tensor([[0.9, 0.1, 0.0]] * 20 + [[0.1, 0.9, 0.0]] * 60).double()
    lost = torch.cat([torch.full((20,), 1000.0), torch.arange(60) * 7 % 60]).double()
    found = worst(samples, served, lost, classes)
    assert [one["loss"] for one in found] == list(range(59, 9, -1))
    assert all(one["predicted"] == "dark" and one["confidence"] == 0.9 for one in found)
    assert found[0]["path"] == str(20 + next(n for n in range(60) if n * 7 % 60 == 59))


def test_the_card_says_what_calibration_did(run: RunDir, staged: StagedDataset) -> None:
    found = scores(run, staged, Calibration(4.0, 60))
    trust = found.scores["val"]["calibration"]
    assert found.fitted() == {
        "temperature": 4.0,
        "ceiling": 1.0,
        "ece_before": trust["before"]["ece"],
        "ece_after": trust["after"]["ece"],
        "images": 60,
    }
    assert scores(run, staged).fitted() is None


def test_answers_that_are_not_finite_are_no_evaluation(
    run: RunDir, staged: StagedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Brightness, "__call__", lambda _, crops: np.full((len(crops), 3), np.nan))
    with pytest.raises(IntegrityError, match="finite"):
        answers(run, staged)
