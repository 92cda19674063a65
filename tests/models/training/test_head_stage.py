"""Heads that learn once more with the images that have judged them, and searches that end."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from core.system.run_dir import DONE, STOPPED
from models.data.dataset import StagedDataset
from models.data.sources import Features, Indices
from models.inference.classifier import Classifier
from models.inference.rejection import Rejection
from models.planning.plan import Plan
from models.training import choice, folds, head_stage, linear_head, loop, resume
from models.training.fit import Fit
from tests.models.running import go, outcome, read
from tests.models.staging import events, request, vouch

STEPS = {"epochs": 4}
HEADS: dict[str, dict[str, Any]] = {
    "computed": {},
    "in steps": {"hyperparameters": STEPS},
    "of views": {"hyperparameters": STEPS, "augmentation": "light"},
    "kept": {"strategy": "gradual"},
}


def own_head(run_dir: Path, data: Path, artefact: Path, **config: Any) -> Path:
    """Order a head on the trunk of an earlier model."""
    asked = {"architecture": "lenet", "weights": "model:stripes", "strategy": "head", **config}
    request(run_dir, data, **asked)
    body = json.loads((run_dir / "request.json").read_text())
    body["init_from"] = str(artefact)
    (run_dir / "request.json").write_text(json.dumps(body))
    return run_dir


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_from_drawn_validation_images_once_they_have_judged_it(
    folder: Path, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The card tells what a head reached that had not seen them, and what is served is kept too."""
    monkeypatch.setattr(choice, "better", lambda *_, **__: False)
    runs = {split: tmp_path / split for split in ("drawn", "given", "allowed")}
    for split, run_dir in runs.items():
        more = {"refit": True} if split == "allowed" else {}
        data = folder / ("drawn" if split == "drawn" else "data")
        assert go(own_head(run_dir, data, artefact, **HEADS[name], **more)) == DONE
    cards = {split: read(run_dir, "card.json") for split, run_dir in runs.items()}
    plans = {split: card["plan"]["refit"]["value"] for split, card in cards.items()}
    assert plans == {"drawn": True, "given": False, "allowed": True}
    flags = {split: card["metrics"]["val"]["out_of_fold"] for split, card in cards.items()}
    assert flags == plans
    digests = {split: card["files"]["weights.safetensors"] for split, card in cards.items()}
    assert digests["drawn"] == digests["allowed"] != digests["given"]

    network = Classifier.from_artefact(runs["drawn"] / "result")
    text = (runs["drawn"] / "result" / "predictions.jsonl").read_text()
    rows = {row["sha256"]: row for row in map(json.loads, text.splitlines())}
    with closing(StagedDataset(folder / "drawn")) as staged:
        for sample in [*staged.splits["val"], *staged.splits["test"]]:
            crop = [network.decode(staged.read(sample))]
            [(shares, similarity)] = network.answer(crop).rows()
            answer = network.rank(shares, 1, similarity, network.thresholds())
            row = rows[sample.sha256]
            assert answer["label"] == row["served_label"]
            assert answer["reason"] == row["served_reason"]
            assert answer["decision"] == row["served_decision"]
            assert answer["confidence"] == pytest.approx(row["served_confidence"], abs=1e-5)
    changed = {
        row["split"] for row in rows.values() if row["confidence"] != row["served_confidence"]
    }
    assert changed == {"val"}
    for line in (runs["given"] / "result" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert (row["served_label"], row["served_confidence"]) == (row["label"], row["confidence"])


def test_a_wrong_label_is_found_among_the_images_that_train(
    folder: Path, artefact: Path, tmp_path: Path
) -> None:
    """Heads that had not seen the image name its class, wherever the split has put it."""
    rows = [json.loads(line) for line in (folder / "drawn/manifest.jsonl").read_text().splitlines()]
    wrong = {rows[3]["sha256"]: "down", rows[62]["sha256"]: "across"}
    true = {row["sha256"]: row["class"] for row in rows}
    for row in rows:
        row["class"] = wrong.get(row["sha256"], row["class"])
    shutil.copytree(folder / "drawn", tmp_path / "data")
    vouch(tmp_path / "data", "".join(json.dumps(row) + "\n" for row in rows))
    run_dir = own_head(tmp_path / "run", tmp_path / "data", artefact)
    assert go(run_dir) == DONE
    text = (run_dir / "result" / "suspects.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    labels = [line for line in found if line["finding"] == "label_suspect"]
    assert {line["sha256"] for line in labels[:2]} == wrong.keys()
    assert all(line["likely"] == true[line["sha256"]] for line in labels[:2])
    stated = read(run_dir, "card.json")["suspects"]
    outliers = len(found) - len(labels)
    assert stated == {"judged": 80, "label_suspect": len(labels), "outlier": outliers}
    (note,) = [one for one in events(run_dir, "note") if one["code"] == "images_suspected"]
    assert note["message"].startswith(f"Of 80 images {len(labels)} may have a wrong label")


def test_no_image_is_proof_of_itself_once_it_is_known(
    folder: Path, artefact: Path, tmp_path: Path
) -> None:
    """A refitted head knows its validation images; they are judged by all others nonetheless."""
    run_dir = own_head(tmp_path / "run", folder / "drawn", artefact)
    assert go(run_dir) == DONE
    network = Classifier.from_artefact(run_dir / "result")
    found = network.rejection
    assert isinstance(found, Rejection)
    assert len(found.references) == len(found.similarities) == 72
    with closing(StagedDataset(folder / "drawn")) as staged:
        crops = [network.decode(staged.read(sample)) for sample in staged.splits["val"]]
    assert (found.similarities[48:] < found.similarity(network.outputs(crops).features)).all()
    sure = found.confidences >= found.usual.confidence
    accepted = ((found.similarities >= found.usual.similarity) & sure)[48:]
    assert read(run_dir, "evaluation.json")["val"]["abstention"]["coverage"] == accepted.mean()
    lines = (run_dir / "result" / "predictions.jsonl").read_text().splitlines()[:24]
    decisions = [json.loads(line)["decision"] for line in lines]
    assert decisions == ["accept" if one else "abstain" for one in accepted]


@pytest.mark.parametrize("numbers", [{}, STEPS])
def test_a_refit_that_is_interrupted_ends_with_the_same_bits(
    folder: Path, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    numbers: dict[str, Any],
) -> None:  # fmt: skip
    monkeypatch.setattr(resume, "SAVE_SHARE", 0)
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0)
    straight, broken = (
        own_head(tmp_path / name, folder / "drawn", artefact, hyperparameters=numbers)
        for name in ("straight", "broken")
    )
    assert go(straight) == DONE
    plain_step, plain_fit = loop.Loop.step, head_stage.put_best
    stages: list[str] = []

    def step(stage: loop.Loop, indices: Indices) -> None:
        stages.append(stage.plan.stage)
        if stages.count("refit") == 3:
            raise KeyboardInterrupt
        plain_step(stage, indices)

    def put_best(fit: Fit, plan: Plan, data: Features, penalty: float) -> None:
        stages.append(plan.stage)
        if stages == ["head", "refit"]:
            raise KeyboardInterrupt
        plain_fit(fit, plan, data, penalty)

    monkeypatch.setattr(loop.Loop, "step", step)
    monkeypatch.setattr(head_stage, "put_best", put_best)
    with pytest.raises(KeyboardInterrupt):
        go(broken)
    before = len(stages)
    assert go(broken) == DONE
    assert set(stages[before:]) == {"refit"}
    assert outcome(broken) == outcome(straight)


WEIGHTS = 2  # Axes of a matrix of weights.


def test_a_search_that_is_told_to_stop_begins_anew_and_ends_with_the_same_bits(
    folder: Path, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM comes in each of the four searches; none goes on to its optimum."""
    straight, broken = (
        own_head(tmp_path / name, folder / "drawn", artefact) for name in ("straight", "broken")
    )
    plain, searches, looks = torch.optim.LBFGS.step, [0], [0]
    told_at = -1

    def step(search: torch.optim.LBFGS, loss: Callable[[], float]) -> Any:
        if search.param_groups[0]["params"][0].ndim != WEIGHTS:
            return plain(search, loss)  # That of a temperature.
        searches.append(0)

        def look() -> float:
            looks.append(0)
            if len(searches) == told_at:
                os.kill(os.getpid(), signal.SIGTERM)
                looks.clear()
            return loss()

        return plain(search, look)

    monkeypatch.setattr(torch.optim.LBFGS, "step", step)
    assert go(straight) == DONE
    penalties = len(linear_head.PENALTIES)
    one, rest = divmod(len(searches) - 1 - penalties, 3)
    assert rest == 0
    # In the choice of a penalty, the first head, the refitted one and, as the first head is kept
    # then, the answers of all folds.
    for place in (1, penalties + 1, penalties + one + 1, one + 1):
        searches.clear()
        told_at = place
        assert go(broken) == STOPPED
        assert not looks
    told_at = -1
    assert go(broken) == DONE
    assert outcome(broken) == outcome(straight)
    assert read(broken, "evaluation.json") == read(straight, "evaluation.json")


def test_some_of_the_images_speak_for_all(
    folder: Path, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 72 images 55 are dealt to folds; those of the others that are validation images fix no
    threshold, as nobody has looked for what is nearly the same.
    """
    monkeypatch.setattr(linear_head, "MOST_IMAGES", 55)
    run_dir = own_head(tmp_path / "run", folder / "drawn", artefact)
    assert go(run_dir) == DONE
    card, scores = read(run_dir, "card.json"), read(run_dir, "evaluation.json")
    chosen = folds.chosen(72, 55, card["seed"])
    training = int((chosen < 48).sum())
    assert training < 48
    assert scores["folds"]["images"] == card["calibration"]["images"] == training + 24
    found = Classifier.from_artefact(run_dir / "result").rejection
    assert isinstance(found, Rejection)
    assert len(found.references) == len(found.similarities) == 55
    with closing(StagedDataset(folder / "drawn")) as staged:
        train, val = staged.splits["train"], staged.splits["val"]
        spoken = [train[number] for number in chosen.tolist() if number < 48] + list(val)
    labels = {sample.path: staged.classes[sample.label] for sample in spoken}
    errors = scores["folds"]["errors"]
    assert all(labels[error["path"]] == error["true"] != error["predicted"] for error in errors)
    matrix = scores["folds"]["confusion"]["matrix"]
    assert len(errors) == matrix[0][1] + matrix[1][0]
    # Images and answers belong together: chance would miss half of them.
    assert scores["folds"]["accuracy"] > 0.8


def test_a_refit_that_the_time_limit_ends_leaves_the_head_that_was_judged(
    folder: Path, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loop.Loop.out_of_time
    monkeypatch.setattr(
        loop.Loop, "out_of_time", lambda it: it.plan.stage == "refit" and it.progress.epoch == 7
    )
    cut = own_head(tmp_path / "cut", folder / "drawn", artefact, hyperparameters=STEPS)
    assert go(cut) == DONE
    monkeypatch.setattr(loop.Loop, "out_of_time", plain)
    given = own_head(tmp_path / "given", folder / "data", artefact, hyperparameters=STEPS)
    assert go(given) == DONE
    cards = [read(run_dir, "card.json") for run_dir in (cut, given)]
    assert cards[0]["files"] == cards[1]["files"]
    assert not cards[0]["metrics"]["val"]["out_of_fold"]


def test_a_refit_whose_search_the_time_limit_ends_leaves_the_head_that_was_judged(
    folder: Path, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = head_stage.put_best

    def put_best(fit: Fit, plan: Plan, data: Features, penalty: float) -> None:
        if plan.stage == "refit":
            fit.deadline.minutes = 0.0
        plain(fit, plan, data, penalty)

    monkeypatch.setattr(head_stage, "put_best", put_best)
    run_dir = own_head(tmp_path / "run", folder / "drawn", artefact)
    assert go(run_dir) == DONE
    card = read(run_dir, "card.json")
    assert not card["metrics"]["val"]["out_of_fold"]
    assert card["rejection"]["references"] == 48
    for line in (run_dir / "result" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert (row["served_label"], row["served_confidence"]) == (row["label"], row["confidence"])
