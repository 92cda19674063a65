"""Each part of a run by itself, as jobs that evaluate, export or search need it."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.system.progress import Meter
from core.system.run_dir import DONE, STOPPED, RunDir
from models.compute.execution import Execution
from models.data import features
from models.data.cache import Cache
from models.data.dataset import StagedDataset
from models.data.features import FeatureExtractor
from models.data.sources import Features, Indices
from models.evaluation.abstention import Abstention
from models.evaluation.calibrate import Calibration
from models.evaluation.evaluate import evaluate, held_out_outputs
from models.inference import rejection_file
from models.inference.card_file import read_card
from models.inference.classifier import Classifier
from models.inference.eager import Eager
from models.inference.network import Network
from models.inference.rejection import Rejection
from models.networks import zoo
from models.planning.plan import Plan
from models.planning.request import TrainRequest
from models.planning.strategy import score
from models.training import choice, folds, head_stage, linear_head, loop, resume
from models.training.fit import Fit
from models.training.session import Session
from models.weights import pretrained
from tests.models.running import go, outcome, read
from tests.models.staging import request, striped

NETWORK = "mobilenet_v3_small"
USUAL = Execution("cpu", "fp32", channels_last=True, threads=1, deterministic=True, reason="usual")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes to train on, to validate on and to test with, in `data`; the same, drawn."""
    folder = tmp_path_factory.mktemp("session")
    striped(folder / "data", train=24, val=12, test=4)
    striped(folder / "drawn", ["val"], train=24, val=12, test=4)
    return folder


@pytest.fixture
def dataset(folder: Path) -> Iterator[StagedDataset]:
    with closing(StagedDataset(folder / "data")) as opened:
        yield opened


@pytest.fixture(scope="module")
def weights_dir(folder: Path) -> Path:
    """Random weights with statistics that fit them, kept as if they were pretrained."""
    torch.manual_seed(0)
    model = zoo.build(NETWORK).train()
    with torch.no_grad():
        for _ in range(10):
            model(torch.randn(8, 3, 32, 32))
    save_file(model.state_dict(), folder / "random.safetensors")
    pretrained.add(NETWORK, folder / "random.safetensors", folder / "weights")
    return folder / "weights"


@pytest.fixture(scope="module")
def artefact(folder: Path) -> Path:
    """What a whole run published."""
    numbers = {"epochs": 3, "batch_size": 16}
    run_dir = request(
        folder / "run", folder / "data", architecture="lenet", hyperparameters=numbers
    )
    assert go(run_dir) == DONE
    return run_dir / "result"


def opened(run_dir: Path) -> tuple[RunDir, TrainRequest]:
    run = RunDir(run_dir)
    return run, TrainRequest.model_validate_json(run.request())


def test_an_artefact_is_evaluated_without_a_training(
    artefact: Path, dataset: StagedDataset, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    with closing(run.events):
        # The network itself is what was evaluated; its graph differs in the last digits.
        card, network = read_card(artefact), Eager.from_artefact(artefact)
        classifier = Classifier.of(card, network, rejection_file.read(artefact, card))
        meter = Meter(run.events, {"evaluate": (32, 1.0)})
        found = held_out_outputs(run, dataset, classifier, threads=1, meter=meter)
    logits = {split: answers.logits for split, answers in found.items()}
    told = json.loads((artefact / "evaluation.json").read_text())
    reason = told["val"]["calibration"]["reason"]
    calibration = Calibration(classifier.temperature, len(logits["val"]), reason)
    features = {split: answers.features for split, answers in found.items()}
    abstention = Abstention.of(classifier.rejection, features)
    evaluation = evaluate(dataset, logits, calibration, seed=42, abstention=abstention)
    evaluation.write(tmp_path, dataset)
    for name in ("evaluation.json", "predictions.jsonl"):
        assert (tmp_path / name).read_bytes() == (artefact / name).read_bytes()
    # Judged anew under another temperature, without asking the network again.
    again = evaluate(dataset, evaluation.logits, Calibration(2.0, 24), seed=42)
    assert again.scores["val"]["log_loss"] != told["val"]["log_loss"]
    assert again.scores["val"]["confusion"] == told["val"]["confusion"]


def test_features_are_extracted_without_a_training(
    artefact: Path, dataset: StagedDataset, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    network = Network.from_artefact(artefact, "model:stripes")
    with closing(run.events):
        extractor = FeatureExtractor.served(network, USUAL)
        meter = Meter(run.events, {"features": (24, 1.0)})
        cache = Cache(tmp_path / "cache", lambda: None)
        found = features.collect(cache, dataset, "val", extractor, meter)
        told = held_out_outputs(run, dataset, network.classifier(), threads=1, meter=meter)
    assert found.values.shape == (24, 84)
    layer = network.model.get_submodule(network.heads.main)
    torch.testing.assert_close(layer(found.values), told["val"].logits)
    torch.testing.assert_close(found.values, told["val"].features)
    stored = load_file(artefact / "weights.safetensors")
    assert all(
        torch.equal(value, stored[name]) for name, value in network.model.state_dict().items()
    )


def test_a_head_is_fitted_on_given_features(
    folder: Path, weights_dir: Path, dataset: StagedDataset, tmp_path: Path
) -> None:
    """As a fold does: on some of the images, judged on the others, none of them decoded again."""
    numbers = {"image_size": 32, "epochs": 20, "weight_decay": 0.1}
    run_dir = request(
        tmp_path / "run", folder / "data", weights_dir, **asked(hyperparameters=numbers)
    )
    run, body = opened(run_dir)
    labels = torch.arange(60) % 2
    noise = torch.randn(60, 1024, generator=torch.Generator().manual_seed(0))
    values = noise + 0.2 * labels[:, None]
    with closing(run.events), Session.open(run, body, dataset) as session:
        fit = session.prepare(session.plan)
        fit = replace(fit, execution=fit.execution.for_head())
        trunk = {name: value.clone() for name, value in fit.network.model.state_dict().items()}
        some, others = Features(values[:48], labels[:48]), Features(values[48:], labels[48:])
        progress = head_stage.train_on(fit, session.plan, some, others)
    assert progress.best["val_accuracy"] > 0.8
    layer = fit.network.model.get_submodule(fit.network.heads.main)
    hits = layer(others.values).argmax(1) == others.labels
    assert float(hits.double().mean()) == progress.best["val_accuracy"]
    changed = [
        name
        for name, value in fit.network.model.state_dict().items()
        if not torch.equal(value, trunk[name])
    ]
    assert changed == ["classifier.3.weight", "classifier.3.bias"]
    assert not (run_dir / "cache").exists()


def asked(strategy: str = "head", **more: Any) -> dict[str, Any]:
    """A head on the random trunk; nothing else is said, unless by `more`."""
    numbers = {"image_size": 32, **more.pop("hyperparameters", {})}
    return {"architecture": NETWORK, "strategy": strategy, "hyperparameters": numbers, **more}


def test_images_that_trained_speak_through_heads_that_did_not_see_them(
    folder: Path, weights_dir: Path, tmp_path: Path
) -> None:
    """The 24 validation images are too few to calibrate on, 72 images in all are not."""
    run_dir = request(tmp_path / "run", folder / "data", weights_dir, **asked())
    assert go(run_dir) == DONE
    card, scores = read(run_dir, "card.json"), read(run_dir, "evaluation.json")
    assert card["calibration"]["images"] == 72
    assert card["calibration"]["ceiling"] == pytest.approx(73 / 74)
    after = scores["val"]["calibration"]
    assert (after["temperature"], after["ceiling"]) == (
        card["calibration"]["temperature"],
        card["calibration"]["ceiling"],
    )
    assert {name: one["out_of_fold"] for name, one in scores.items()} == {
        "val": False, "test": False, "folds": True,
    }  # fmt: skip
    assert scores["folds"]["images"] == 72
    assert card["metrics"]["folds"]["log_loss"] == scores["folds"]["log_loss"]


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
    assert len(errors) == scores["folds"]["confusion"][0][1] + scores["folds"]["confusion"][1][0]
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


def test_a_session_fits_several_plans_and_publishes_the_better_one(
    folder: Path, dataset: StagedDataset, tmp_path: Path
) -> None:
    """Each is what it would be alone, and goes on from its own checkpoints."""
    rates = {"slow": 1e-5, "fast": 0.005}

    def ordered(name: str) -> Path:
        numbers = {"epochs": 3, "batch_size": 16, "learning_rate": rates[name]}
        return request(
            tmp_path / name, folder / "data", architecture="lenet", hyperparameters=numbers
        )

    for name in rates:
        assert go(ordered(name)) == DONE
    run, body = opened(
        request(
            tmp_path / "both",
            folder / "data",
            architecture="lenet",
            hyperparameters={"epochs": 3, "batch_size": 16},
        )
    )
    with closing(run.events):
        with Session.open(run, body, dataset) as session:
            plans = {
                name: session.plan.revised("learning_rate", rate, "of a search")
                for name, rate in rates.items()
            }
            fits = {name: session.fit(plan, name) for name, plan in plans.items()}
        for name, trained in fits.items():
            alone = read(tmp_path / name, "history.json")["epochs"]
            assert trained.progress.history == alone
        metric = "val_accuracy"
        best = max(fits, key=lambda name: score(fits[name].progress.best, metric))
        assert best == "fast"
        session.write(fits[best], session.evaluate(fits[best]))
        assert read(run.path, "card.json")["files"] == read(tmp_path / "fast", "card.json")["files"]
        assert {path.name for path in run.checkpoint.iterdir()} >= {"slow", "fast"}


def test_what_an_interrupted_fit_of_several_had_done_is_not_done_again(
    folder: Path, dataset: StagedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "SAVE_SHARE", 0)
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0)
    numbers = {"epochs": 2, "batch_size": 16}
    run, body = opened(
        request(tmp_path / "run", folder / "data", architecture="lenet", hyperparameters=numbers)
    )
    steps: list[str] = []
    plain = loop.Loop.step

    def step(stage: loop.Loop, indices: Indices) -> None:
        steps.append(stage.fit.checkpoint.name)
        if len(steps) == 9:
            raise KeyboardInterrupt
        plain(stage, indices)

    monkeypatch.setattr(loop.Loop, "step", step)

    def search() -> None:
        with Session.open(run, body, dataset) as session:
            for number in (1, 2):
                plan = session.plan.revised("learning_rate", number / 1000, "of a search")
                session.fit(plan, str(number))

    with closing(run.events):
        with pytest.raises(KeyboardInterrupt):
            search()
        search()
    assert steps == ["1"] * 6 + ["2"] * 3 + ["2"] * 4
