"""Each part of a run by itself, as jobs that evaluate, export or search need it."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.system.progress import Meter
from core.system.run_dir import DONE, RunDir
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
from models.planning.request import TrainRequest
from models.planning.strategy import score
from models.training import head_stage, loop, resume
from models.training.session import Session
from tests.models.running import go, read
from tests.models.staging import request
from tests.models.training.conftest import NETWORK

USUAL = Execution("cpu", "fp32", channels_last=True, threads=1, deterministic=True, reason="usual")


@pytest.fixture
def dataset(folder: Path) -> Iterator[StagedDataset]:
    with closing(StagedDataset(folder / "data")) as opened:
        yield opened


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
