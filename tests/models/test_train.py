"""Whole runs of the trainer on tiny data, in this process unless a process has to die."""

import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.system.run_dir import CRASHED, DONE, FAILED, STOPPED
from models.data.dataset import StagedDataset
from models.data.sources import Indices
from models.inference import artefact
from models.inference.classifier import Classifier
from models.training import checkpoint, loop, resume
from tests.models.running import go, outcome, read
from tests.models.staging import events, png, request, stage, start, striped, stripes
from tests.waiting import wait_for

SHORT = {"epochs": 4, "batch_size": 16}
MIXED = {"augmentation": "strong", "mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of stripes: 48 images to train on, 16 to validate, 8 to test."""
    return striped(tmp_path_factory.mktemp("stripes") / "data", train=24, val=8, test=4)


def lenet(folder: Path, dataset: Path, **config: Any) -> Path:
    config = {"hyperparameters": SHORT, **config}
    return request(folder, dataset, architecture="lenet", **config)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A run that nothing interrupted."""
    run_dir = lenet(tmp_path_factory.mktemp("whole") / "run", dataset)
    assert go(run_dir) == DONE
    return run_dir


def test_a_run_leaves_a_complete_result(whole: Path) -> None:
    names = {path.name for path in (whole / "result").iterdir()}
    assert names == {
        "weights.safetensors",
        "network.onnx",
        "card.json",
        "evaluation.json",
        "history.json",
        "predictions.jsonl",
        "suspects.jsonl",
    }
    assert not (whole / "result.tmp").exists()
    assert not (whole / "cache").exists()
    evaluation = read(whole, "evaluation.json")
    assert evaluation.keys() == {"val", "test"}
    assert evaluation["val"]["accuracy"] == 1.0
    assert evaluation["test"]["images"] == 8
    card = read(whole, "card.json")
    assert card["classes"] == ["across", "down"]
    assert card["metrics"]["val"]["accuracy"] == 1.0
    assert card["exact"] == {"value": True, "reason": []}
    assert all(entry["reason"] for entry in card["plan"].values())
    assert card["engine"]["name"] == "onnxruntime"
    assert card["engine"]["images"] == 24
    assert card["engine"]["max_difference"] < 1e-5
    assert card["files"].keys() == {"weights.safetensors", "network.onnx"}
    phases = [event["phase"] for event in events(whole, "phase")]
    assert phases == ["preparing", "training", "evaluating", "calibrating", "publishing"]
    assert card["calibration"] is None
    assert "16 held-out images are too few" in evaluation["val"]["calibration"]["reason"]
    assert [note["code"] for note in events(whole, "note")] == ["not_calibrated", "never_abstains"]
    epochs = events(whole, "epoch")
    assert [event["epoch"] for event in epochs] == [1, 2, 3, 4]
    assert epochs[-1].keys() >= {"train_loss", "val_loss", "val_accuracy", "val_macro_f1", "lr"}


def test_a_second_start_of_a_finished_run_changes_nothing(whole: Path) -> None:
    before = (whole / "result" / "card.json").stat().st_mtime_ns
    assert go(whole) == DONE
    assert (whole / "result" / "card.json").stat().st_mtime_ns == before


def test_decoding_and_validation_are_not_silent(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor restarts a run that says nothing for minutes, as large data would make it."""
    monkeypatch.setattr("core.system.run_dir.PROGRESS_SECONDS", 0)
    monkeypatch.setattr("core.system.run_dir.ALIVE_SECONDS", 0)
    run_dir = lenet(tmp_path / "run", dataset, hyperparameters=SHORT | {"epochs": 2})
    assert go(run_dir) == DONE
    steps = Counter(event["step"] for event in events(run_dir, "progress"))
    assert steps[0] >= 2  # Training and validation images, decoded before the first step.
    assert (steps[2], steps[3], steps[5], steps[6]) == (1, 2, 1, 2)  # Two epochs of three steps.


def test_the_seed_decides_the_weights(tmp_path: Path, dataset: Path, whole: Path) -> None:
    same, other = lenet(tmp_path / "a", dataset), lenet(tmp_path / "b", dataset, seed=7)
    assert go(same) == go(other) == DONE
    assert outcome(same) == outcome(whole)
    assert outcome(other) != outcome(whole)


def stop_after_each_step(patch: pytest.MonkeyPatch) -> None:
    plain = loop.Loop.step

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        plain(stage, indices)
        stage.fit.run.stopping = True

    patch.setattr(loop.Loop, "step", one_step)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_interrupted_anywhere_it_ends_with_the_same_bits(
    tmp_path: Path, dataset: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each single step, resumed each time: 12 stops in a run of 12 steps."""
    numbers = {**SHORT, "optimizer": optimizer, "learning_rate": 0.003}
    config: Any = {"hyperparameters": numbers, "imbalance": "weighted_sampling", **MIXED}
    straight = lenet(tmp_path / "straight", dataset, **config)
    assert go(straight) == DONE
    broken = lenet(tmp_path / "broken", dataset, **config)
    with monkeypatch.context() as patch:
        stop_after_each_step(patch)
        stops = 0
        while (code := go(broken)) == STOPPED:
            stops += 1
    assert code == DONE
    assert stops >= 10
    assert outcome(broken) == outcome(straight)
    assert [event["epoch"] for event in events(broken, "epoch")] == [1, 2, 3, 4]
    steps = [event["step"] for event in events(broken, "progress")]
    assert steps == sorted(set(steps))


class Crash(Exception):
    pass


def _crash_at(number: int, plain: Callable[..., None]) -> Callable[..., None]:
    calls = iter(range(1000))

    def failing(*arguments: Any, **named: Any) -> None:
        if next(calls) == number:
            raise Crash
        plain(*arguments, **named)

    return failing


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (checkpoint, "settle"),
        (checkpoint, "save_file"),
        (artefact, "write"),
        (loop.Loop, "step"),
    ],
)
@pytest.mark.parametrize("number", [0, 5])
def test_a_crash_inside_a_save_costs_nothing_but_time(
    tmp_path: Path,
    dataset: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    number: int,
) -> None:
    monkeypatch.setattr(resume, "SAVE_SHARE", 0)
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0)
    run_dir = lenet(tmp_path / "run", dataset)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, _crash_at(number, getattr(where, name)))
        assert go(run_dir) in {CRASHED, DONE}
    assert go(run_dir) == DONE
    assert outcome(run_dir) == outcome(whole)
    assert not list((run_dir / "checkpoint").rglob(".*"))


def test_sigterm_saves_and_exits_75_and_sigkill_loses_nothing(
    tmp_path: Path, dataset: Path
) -> None:
    config: dict[str, Any] = {
        "hyperparameters": {"epochs": 150, "batch_size": 16},
        "early_stopping": None,
    }
    straight = lenet(tmp_path / "straight", dataset, **config)
    assert go(straight) == DONE
    run_dir = lenet(tmp_path / "run", dataset, **config)
    child = start(run_dir)
    wait_for(lambda: len(events(run_dir, "epoch")) > 3, timeout=120)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == STOPPED
    seen = len(events(run_dir, "epoch"))
    child = start(run_dir)
    wait_for(lambda: len(events(run_dir, "epoch")) > seen + 3, timeout=120)
    child.kill()
    child.wait()
    assert go(run_dir) == DONE
    assert read(run_dir, "card.json")["exact"] == {"value": True, "reason": []}
    assert outcome(run_dir) == outcome(straight)
    assert [event["epoch"] for event in events(run_dir, "epoch")] == list(range(1, 151))


def test_other_conditions_are_recorded_as_inexact(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = lenet(tmp_path / "run", dataset)
    with monkeypatch.context() as patch:
        stop_after_each_step(patch)
        assert go(run_dir) == STOPPED
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("PIL.__version__", "1.1")
    assert go(run_dir) == DONE
    exact = read(run_dir, "card.json")["exact"]
    assert exact["value"] is False
    assert re.match(r"threads: \d+ -> 3; pillow: .* -> 1\.1$", exact["reason"][0])
    assert events(run_dir, "note")[0]["code"] == "resumed_inexactly"


def error(run_dir: Path) -> str:
    assert go(run_dir) == FAILED
    assert not (run_dir / "result").exists()
    return str(json.loads((run_dir / "error.json").read_text())["code"])


def test_a_diverged_loss_is_a_failure_with_a_name(tmp_path: Path, dataset: Path) -> None:
    wild = {**SHORT, "optimizer": "sgd", "learning_rate": 100.0, "schedule": "constant"}
    wild |= {"warmup_epochs": 0.0}
    assert error(lenet(tmp_path / "run", dataset, hyperparameters=wild)) == "loss_diverged"


def test_a_time_limit_keeps_the_best_so_far(tmp_path: Path, dataset: Path) -> None:
    long = {"epochs": 1000, "batch_size": 16}
    run_dir = lenet(
        tmp_path / "run",
        dataset,
        hyperparameters=long,
        limits={"max_minutes": 0.02},
        early_stopping=None,
    )
    assert go(run_dir) == DONE
    codes = [note["code"] for note in events(run_dir, "note")]
    assert codes == ["time_limit_reached", "not_calibrated", "never_abstains"]
    assert 1 <= len(read(run_dir, "history.json")["epochs"]) < 1000


def test_a_time_limit_without_one_epoch_is_a_failure(tmp_path: Path, dataset: Path) -> None:
    run_dir = lenet(tmp_path / "run", dataset, limits={"max_minutes": 1e-9})
    assert error(run_dir) == "time_limit_reached"


@pytest.mark.parametrize(
    "problem", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_is_a_failure_with_a_name(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def one_step(*_: object) -> None:
        raise problem

    monkeypatch.setattr(loop.Loop, "step", one_step)
    assert error(lenet(tmp_path / "run", dataset)) == "out_of_memory"


def test_weights_that_are_nowhere_are_a_failure_with_a_name(tmp_path: Path, dataset: Path) -> None:
    run_dir = request(tmp_path / "run", dataset, architecture="resnet18")
    assert error(run_dir) == "weights_unavailable_offline"


def test_early_stopping_says_so(tmp_path: Path, dataset: Path) -> None:
    run_dir = lenet(
        tmp_path / "run",
        dataset,
        hyperparameters={"epochs": 200, "batch_size": 16, "learning_rate": 1e-9},
        early_stopping={"patience": 2},
        selection_metric="accuracy",
    )
    assert go(run_dir) == DONE
    assert "early_stopped" in [note["code"] for note in events(run_dir, "note")]
    assert len(read(run_dir, "history.json")["epochs"]) < 200


def test_without_validation_images_the_training_loss_selects(tmp_path: Path) -> None:
    images = [stripes("train", name, n) for name in ("across", "down") for n in range(8)]
    data = stage(tmp_path / "data", images)
    run_dir = lenet(tmp_path / "run", data)
    assert go(run_dir) == DONE
    assert read(run_dir, "evaluation.json") == {}
    assert (run_dir / "result" / "predictions.jsonl").read_text() == ""
    assert read(run_dir, "history.json")["best"]["metric"] == "train_loss"
    assert "no_validation_images" in [note["code"] for note in events(run_dir, "note")]


def test_classes_missing_from_a_split_break_nothing(tmp_path: Path) -> None:
    images = [stripes("train", "across", n) for n in range(6)]
    images += [stripes("train", "down", n) for n in range(6)]
    images += [stripes("val", "down", n) for n in range(3)]
    data = stage(tmp_path / "data", images, classes=["across", "absent", "down"])
    run_dir = lenet(tmp_path / "run", data, imbalance="logit_adjustment")
    assert go(run_dir) == DONE
    table = read(run_dir, "evaluation.json")["val"]["per_class"]
    assert [row["recall"] is None for row in table] == [True, True, False]
    codes = [note["code"] for note in events(run_dir, "note")]
    assert codes == [
        "class_missing_in_train",
        "class_missing_in_val",
        "not_calibrated",
        "never_abstains",
    ]


def test_one_image_a_class_of_one_pixel_each(tmp_path: Path) -> None:
    images = [
        (split, str(value), png(np.full((1, 1, 3), value, np.uint8)))
        for split in ("train", "val")
        for value in (0, 128, 255)
    ]
    run_dir = lenet(tmp_path / "run", stage(tmp_path / "data", images))
    assert go(run_dir) == DONE


def test_a_thousand_classes(tmp_path: Path) -> None:
    images = [
        (split, f"{value:04d}", png(np.full((2, 2, 3), value % 256, np.uint8)))
        for split in ("train", "val")
        for value in range(1000)
    ]
    data = stage(tmp_path / "data", images)
    run_dir = lenet(tmp_path / "run", data, hyperparameters={"epochs": 1, "batch_size": 500})
    assert go(run_dir) == DONE
    assert read(run_dir, "evaluation.json")["val"]["confusion"]["matrix"] is None


def test_evaluation_is_what_the_published_model_answers(whole: Path, dataset: Path) -> None:
    classifier = Classifier.from_artefact(whole / "result")
    staged = StagedDataset(dataset)
    rows = [
        json.loads(line)
        for line in (whole / "result" / "predictions.jsonl").read_text().splitlines()
    ]
    samples = [*staged.splits["val"], *staged.splits["test"]]
    assert [row["sha256"] for row in rows] == [sample.sha256 for sample in samples]
    for row, sample in zip(rows, samples, strict=True):
        alone = classifier.forward([classifier.decode(staged.read(sample))])
        answer = classifier.rank(alone[0], 1)
        assert answer["label"] == row["label"]
        assert answer["confidence"] == pytest.approx(row["confidence"], abs=1e-5)
        assert row["class"] == staged.classes[sample.label]
    staged.close()


def test_going_on_from_a_model_keeps_what_it_knows(tmp_path: Path, whole: Path) -> None:
    """Other class order, one class more, next to no training: the old classes are still told."""
    images = [stripes("val", name, n) for name in ("across", "down") for n in range(8)]
    images += [stripes("train", name, n) for name in ("across", "down") for n in range(3)]
    images += [("train", "zero", png(np.zeros((32, 32), np.uint8)))]
    data = stage(tmp_path / "data", images, classes=["zero", "down", "across"])
    run_dir = lenet(
        tmp_path / "run",
        data,
        weights="model:stripes@1",
        strategy="full",
        hyperparameters={"epochs": 1, "learning_rate": 1e-6},
    )
    body = json.loads((run_dir / "request.json").read_text())
    body["init_from"] = str(whole / "result")
    (run_dir / "request.json").write_text(json.dumps(body))
    assert go(run_dir) == DONE
    assert read(run_dir, "evaluation.json")["val"]["accuracy"] >= 0.9
    lineage = read(run_dir, "card.json")["lineage"]
    assert lineage["weights"] == "model:stripes@1"
    assert lineage["sha256"] == read(whole, "card.json")["files"]["weights.safetensors"]["sha256"]
