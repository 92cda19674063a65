"""Whole batches on tiny data, in this process unless a process has to die."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.system import failpoints
from core.system.run_dir import DONE, FAILED, supervise
from models.evaluation import abstention
from models.evaluation.abstention import Abstention, Seen
from models.inference.classifier import Classifier
from models.inference.rejection import Rejection
from models.predict import predict
from models.prediction import parts
from tests.models.publishing import write_lenet
from tests.models.staging import ROOT, stage, stripes

CLASSES = ["across", "down", "neither"]
Order = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet with random weights that knows one direction of stripes."""
    folder = tmp_path_factory.mktemp("model")
    write_lenet(folder, CLASSES, seed=3)
    classifier = Classifier.from_artefact(folder)
    crops = [classifier.decode(stripes("val", "across", number)[2]) for number in range(60)]
    features = torch.from_numpy(classifier.outputs(crops).features)
    sure, numbers = torch.from_numpy(classifier.forward(crops)).amax(1), torch.arange(60)
    rejection = abstention.fit(
        features, torch.zeros(60).long(), [Seen(features, sure, numbers)], numbers
    )
    assert isinstance(rejection, Rejection)
    stated = Abstention.of(rejection, {}).stated()
    write_lenet(folder, CLASSES, seed=3, known=rejection, rejection=stated)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 striped images in two splits, one of them of a class that the model does not know."""
    folder = tmp_path_factory.mktemp("batch") / "data"
    images = [stripes("val", CLASSES[number % 2], number) for number in range(40)]
    images += [stripes("test", CLASSES[number % 2], number) for number in range(259)]
    images.append(("test", "zebra", images[0][2]))  # A copy as well.
    return stage(folder, images)


@pytest.fixture
def order(tmp_path: Path, model: Path, data: Path) -> Order:
    """Write a RUN_DIR that asks the model about the data, or about what is named instead."""

    def write(name: str = "run", **changes: Any) -> Path:
        images = Path(changes.get("images", data))
        run_dir = tmp_path / name
        run_dir.mkdir()
        request = {
            "images": str(images),
            "images_sha256": digest(images / "manifest.jsonl"),
            "top_k": 2,
            "max_image_pixels": 1_000_000,
            "model": str(model),
            "model_sha256": digest(model / "card.json"),
            "weights_dir": str(tmp_path / "weights"),
            "offline": True,
            **changes,
        }
        (run_dir / "request.json").write_text(json.dumps(request))
        return run_dir

    return write


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def go(run_dir: Path) -> int:
    return supervise(predict, [str(run_dir)], resumable=True)


def rows(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "result" / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def result(run_dir: Path, name: str) -> Any:
    return json.loads((run_dir / "result" / name).read_text())


def test_each_image_has_the_answer_that_a_prediction_gives(order: Order, model: Path) -> None:
    run_dir = order()
    assert go(run_dir) == DONE
    answered = rows(run_dir)
    assert [row["index"] for row in answered] == list(range(300))
    assert result(run_dir, "summary.json")["images"] == 300
    classifier = Classifier.from_artefact(model)
    split, name, image = stripes("test", "down", 1)
    served = classifier.forward([classifier.decode(image)])[0]
    row = answered[41]
    assert (row["split"], row["class"], row["sha256"]) == (
        split, name, hashlib.sha256(image).hexdigest(),
    )  # fmt: skip
    similarity = classifier.answer([classifier.decode(image)]).similarities
    assert similarity is not None
    wanted = classifier.rank(served, 2, float(similarity[0]), classifier.thresholds())
    assert (row["decision"], row["reason"]) == (wanted["decision"], wanted["reason"])
    assert row["similarity"] == pytest.approx(float(similarity[0]), abs=1e-6)
    assert [one["label"] for one in row["predictions"]] == [
        one["label"] for one in wanted["predictions"]
    ]
    assert row["confidence"] == pytest.approx(wanted["confidence"], abs=1e-6)
    assert row["class_confidence"] == pytest.approx(float(served[1]), abs=1e-6)


def test_images_of_known_classes_are_scored(order: Order) -> None:
    run_dir = order()
    assert go(run_dir) == DONE
    scores = result(run_dir, "evaluation.json")
    known = [row for row in rows(run_dir) if row["split"] == "test" and row["class"] != "zebra"]
    right = sum(row["class"] == row["label"] for row in known)
    assert scores.keys() == {"test", "val"}
    assert scores["test"]["images"] == 259
    assert scores["test"]["accuracy"] == pytest.approx(right / 259)
    assert [one["class"] for one in scores["test"]["per_class"]] == CLASSES
    assert sum(map(sum, scores["test"]["confusion"]["matrix"])) == 259
    assert len(scores["test"]["errors"]) == min(50, 259 - right)


def test_answers_that_are_not_relied_on_are_counted(order: Order) -> None:
    usual, never = order("usual"), order("never", reject="none")
    assert go(usual) == go(never) == DONE
    reasons = [row["reason"] for row in rows(usual) if row["split"] == "test"]
    told = result(usual, "evaluation.json")["test"]["abstention"]
    assert told["unknown"] == reasons[:-1].count("unknown") > 0
    assert told["coverage"] == pytest.approx(reasons[:-1].count(None) / 259)
    assert 0 < told["coverage"] < 1
    abstained = [row for row in rows(usual) if row["decision"] == "abstain"]
    assert result(usual, "summary.json")["abstained"] == len(abstained)
    assert {row["decision"] for row in rows(never)} == {"accept"}
    told = result(never, "evaluation.json")["test"]["abstention"]
    assert (told["coverage"], told["reason"]) == (1.0, "not asked for")


def test_a_share_that_nobody_can_promise_ends_the_job(order: Order) -> None:
    run_dir = order(reject=0.99)
    assert go(run_dir) == FAILED
    assert json.loads((run_dir / "error.json").read_text())["code"] == "rejection_unavailable"


def test_one_split_alone(order: Order) -> None:
    run_dir = order(split="val")
    assert go(run_dir) == DONE
    assert {row["split"] for row in rows(run_dir)} == {"val"}
    assert len(rows(run_dir)) == 40


def test_a_killed_batch_goes_on_without_losing_or_doubling_an_image(order: Order) -> None:
    whole, killed = order("whole"), order("killed")
    assert go(whole) == DONE
    environment = {**os.environ, failpoints.VARIABLE: "predict.after_part=kill"}
    command = [sys.executable, "-m", "models.predict", str(killed)]
    died = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True)
    assert died.returncode < 0, died.stderr
    assert not (killed / "result").exists()
    before = {path: path.stat().st_mtime_ns for path in killed.glob("checkpoint/*/*.jsonl")}
    assert before
    assert go(killed) == DONE
    assert {path: path.stat().st_mtime_ns for path in before} == before  # Not asked again.
    assert [row["index"] for row in rows(killed)] == list(range(300))
    assert [row["label"] for row in rows(killed)] == [row["label"] for row in rows(whole)]


def test_answers_of_another_model_are_not_taken_over(order: Order) -> None:
    run_dir = order()
    torn = run_dir / "checkpoint" / ("0" * 32)
    torn.mkdir(parents=True)
    (torn / "000000000.jsonl").write_text('{"index": 0, "path": "stranger"}\n' * parts.PART)
    assert go(run_dir) == DONE
    assert rows(run_dir)[0]["path"] == "val/across/000000.png"


def test_an_unreadable_image_has_an_error_and_costs_no_other(order: Order, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    _, _, good = stripes("val", "down", 1)
    stage(folder, [("val", "down", good)] * 2)
    (shard,) = (folder / "shards").iterdir()
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    cut = good[:60]
    lines[1] |= {"length": len(cut), "sha256": hashlib.sha256(cut).hexdigest()}
    lines.append(
        {"path": "x", "class": None, "split": None, "error": {"code": "link", "message": "No."}}
    )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_dir = order(images=str(folder), images_sha256=digest(folder / "manifest.jsonl"))
    assert go(run_dir) == DONE
    statuses = [(row["status"], row.get("error", {}).get("code")) for row in rows(run_dir)]
    assert statuses == [("ok", None), ("error", "image_undecodable"), ("error", "link")]
    assert result(run_dir, "summary.json")["failed"] == 2
    shard.write_bytes(shard.read_bytes().replace(good[40:60], bytes(20)))
    again = order("again", images=str(folder), images_sha256=digest(folder / "manifest.jsonl"))
    assert go(again) == FAILED  # Bytes that are not as recorded are no matter of one image.
    assert json.loads((again / "error.json").read_text())["code"] == "integrity"
