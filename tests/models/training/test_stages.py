"""Runs of more than one stage, with random trunks in place of pretrained ones."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.system.run_dir import DONE, FAILED, STOPPED
from models.compute.execution import Execution
from models.data.sources import Indices
from models.evaluation.intervals import standard_error
from models.networks import zoo
from models.planning import strategy
from models.training import choice, head_stage, layers_stage, loop, stage_result, stages
from models.training.precision import benchmark
from models.training.precision.workload import Workload
from tests.models.running import go, outcome, read
from tests.models.staging import events, png, request, stage
from tests.models.training.conftest import NETWORK
from topwork.errors import LossDiverged, TimeLimitReached

SHORT = {"image_size": 32, "epochs": 3, "batch_size": 16}


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine, an epoch over all layers is worth its time."""
    monkeypatch.setattr(strategy, "DEFAULT_BUDGET", 3600.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Light and dark pictures, a few of which are labelled wrongly, so that no model is perfect."""
    rng = np.random.default_rng(0)
    images = []
    for part, size in (("train", 24), ("val", 24)):
        for number in range(size):
            light = number % 2
            pixels = rng.uniform(60 * light, 60 * light + 160, (32, 32, 3)).astype(np.uint8)
            name = "light" if light != (number % 8 == 0) else "dark"
            images.append((part, name, png(pixels)))
    return stage(tmp_path_factory.mktemp("light") / "data", images)


def order(folder: Path, dataset: Path, weights_dir: Path, **config: Any) -> Path:
    config = {"hyperparameters": SHORT, **config}
    return request(folder, dataset, weights_dir, architecture=NETWORK, **config)


def codes(run_dir: Path) -> list[str]:
    return [note["code"] for note in events(run_dir, "note")]


@pytest.mark.parametrize("chosen", ["auto", "gradual"])
def test_stages_follow_each_other_and_the_best_of_all_is_kept(
    tmp_path: Path, dataset: Path, weights_dir: Path, chosen: str
) -> None:
    run_dir = order(tmp_path / "run", dataset, weights_dir, strategy=chosen)
    assert go(run_dir) == DONE
    told = events(run_dir, "epoch")
    name = {"auto": "full"}.get(chosen, chosen)
    assert [event["epoch"] for event in told] == [1, 2, 3, 4, 5, 6]
    assert [event["stage"] for event in told] == ["head"] * 3 + [name] * 3
    history = read(run_dir, "history.json")
    candidates = history["epochs"][2:]  # Of the head's epochs the last.
    top = max(one["val_accuracy"] for one in candidates)
    bound = top - standard_error(top, 24)
    told_apart = [one for one in candidates if one["val_accuracy"] >= bound]
    best = min(told_apart, key=lambda one: one["val_loss"])
    assert history["best"]["epoch"] == best["epoch"]
    evaluation = read(run_dir, "evaluation.json")["val"]
    assert evaluation["accuracy"] == pytest.approx(best["val_accuracy"])
    plan = read(run_dir, "card.json")["plan"]
    assert plan["strategy"]["value"] == (strategy.HEAD_THEN_FULL if chosen == "auto" else chosen)
    assert plan[f"{name}.batch_norm"]["value"] == "frozen"
    assert f"kept_{best['stage']}" in codes(run_dir)
    if chosen == "auto":
        assert "s for an epoch over all layers" in plan["full.epochs"]["reason"]
    else:
        assert "from the head: features." in plan["gradual.blocks"]["reason"]


@pytest.mark.parametrize(
    "chosen",
    ["gradual", pytest.param("auto", marks=[pytest.mark.chaos, pytest.mark.nightly])],
)
def test_interrupted_anywhere_it_ends_with_the_same_bits(
    tmp_path: Path,
    dataset: Path,
    weights_dir: Path,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped after each single step, also in the first and the last of each stage."""
    straight = order(tmp_path / "straight", dataset, weights_dir, strategy=chosen)
    assert go(straight) == DONE
    broken = order(tmp_path / "broken", dataset, weights_dir, strategy=chosen)
    plain = loop.Loop.step

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        plain(stage, indices)
        stage.fit.run.stopping = True

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "step", one_step)
        stops = 0
        while (code := go(broken)) == STOPPED:
            stops += 1
    assert code == DONE
    assert stops >= 8
    assert outcome(broken) == outcome(straight)
    assert [event["epoch"] for event in events(broken, "epoch")] == [1, 2, 3, 4, 5, 6]


def test_a_stage_does_not_compute_as_the_one_before_it(
    tmp_path: Path, dataset: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fastest for passes of a frozen trunk says nothing about steps through it."""
    began: dict[str, Execution] = {}

    def decide(usual: Execution, workload: Workload, *_: object) -> Execution:
        began[workload.plan.mode] = usual
        if workload.forward:
            return replace(usual, precision="bf16", channels_last=not usual.channels_last)
        return usual

    monkeypatch.setattr(benchmark, "decide", decide)
    run_dir = order(tmp_path / "run", dataset, weights_dir)
    assert go(run_dir) == DONE
    assert list(began) == ["head", "refine"]
    assert began["refine"].precision == "fp32"
    assert began["refine"].arithmetic == began["head"].arithmetic
    plan = read(run_dir, "card.json")["plan"]
    assert plan["execution"]["value"]["precision"] == "bf16"
    assert plan["full.execution"]["value"]["precision"] == "fp32"
    assert events(run_dir, "plan")[-1]["plan"]["execution"] == plan["execution"]


def test_a_finished_head_and_its_decision_are_not_made_again(
    tmp_path: Path, dataset: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = order(tmp_path / "straight", dataset, weights_dir)
    assert go(straight) == DONE
    run_dir = order(tmp_path / "run", dataset, weights_dir)
    with monkeypatch.context() as patch:
        patch.setattr(layers_stage, "train", lambda *_: 1 / 0)
        assert go(run_dir) != DONE
    assert (run_dir / "checkpoint" / stage_result.FILE).exists()
    monkeypatch.setattr(head_stage, "train", lambda *_: 1 / 0)
    monkeypatch.setattr(stages, "decide_next", lambda *_: 1 / 0)
    assert go(run_dir) == DONE
    assert outcome(run_dir) == outcome(straight)


def test_a_damaged_head_is_trained_again(
    tmp_path: Path, dataset: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = order(tmp_path / "run", dataset, weights_dir)
    with monkeypatch.context() as patch:
        patch.setattr(layers_stage, "train", lambda *_: 1 / 0)
        assert go(run_dir) != DONE
    file = run_dir / "checkpoint" / stage_result.FILE
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert go(run_dir) == DONE
    assert [event["epoch"] for event in events(run_dir, "epoch")] == [1, 2, 3, 4, 5, 6]


def test_a_short_limit_leaves_the_rest_out_and_says_so(
    tmp_path: Path, dataset: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "epoch_seconds", lambda *_: 1e6)
    run_dir = order(tmp_path / "run", dataset, weights_dir, limits={"max_minutes": 10})
    assert go(run_dir) == DONE
    assert {event["stage"] for event in events(run_dir, "epoch")} == {"head"}
    assert "full_skipped" in codes(run_dir)
    plan = read(run_dir, "card.json")["plan"]
    assert plan["strategy"]["value"] == "head"
    assert "80% of the time left" in plan["strategy"]["reason"]
    assert "full.epochs" not in plan


@pytest.mark.parametrize(
    ("where", "error", "code"),
    [
        ("check_loss", LossDiverged("The loss is no number."), "loss_diverged"),
        ("step", MemoryError(), None),
    ],
)
def test_what_a_later_stage_breaks_costs_nothing(
    tmp_path: Path,
    dataset: Path,
    weights_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: Exception,
    code: str | None,
) -> None:
    plain = getattr(loop.Loop, where)

    def fails(stage: loop.Loop, *values: Any) -> Any:
        if stage.plan.stage == "full" and stage.progress.step:
            raise error
        return plain(stage, *values)

    monkeypatch.setattr(loop.Loop, where, fails)
    run_dir = order(tmp_path / "run", dataset, weights_dir)
    assert (go(run_dir) == DONE) is (code is not None)
    if code:
        assert code in codes(run_dir)
        assert "kept_head" in codes(run_dir)
        history = read(run_dir, "history.json")
        assert read(run_dir, "evaluation.json")["val"]["accuracy"] == pytest.approx(
            history["best"]["val_accuracy"]
        )


def test_time_that_is_over_before_the_next_stage_keeps_the_head(
    tmp_path: Path, dataset: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def over(*_: object) -> None:
        raise TimeLimitReached

    monkeypatch.setattr(layers_stage, "train", over)
    run_dir = order(tmp_path / "run", dataset, weights_dir, strategy="gradual")
    assert go(run_dir) == DONE
    assert "time_limit_reached" in codes(run_dir)
    assert read(run_dir, "history.json")["best"]["stage"] == "head"


def stopped_in_the_second_epoch(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until an epoch over all layers is done; the next attempt has no time and no images."""
    plain = loop.Loop.step

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        plain(stage, indices)
        stage.fit.run.stopping = stage.plan.stage != "head" and stage.steps_done > stage.steps

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "step", one_step)
        assert go(run_dir) == STOPPED
    shutil.rmtree(run_dir / "cache")
    (run_dir / "checkpoint" / "clock.json").write_text('{"spent": 1e6}')


@pytest.mark.parametrize(
    ("chosen", "better"), [("auto", 1), ("auto", -1), ("gradual", 1), ("full", 1)]
)
def test_time_that_is_over_while_a_resumed_run_decodes_costs_no_finished_epoch(
    tmp_path: Path,
    dataset: Path,
    weights_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
    better: int,
) -> None:
    """The better one of the head and what comes after it is kept, be it the last or the first."""
    monkeypatch.setattr(choice, "better", lambda *_, **__: better > 0)
    limits = {"max_minutes": 10}
    run_dir = order(tmp_path / "run", dataset, weights_dir, strategy=chosen, limits=limits)
    stopped_in_the_second_epoch(run_dir, monkeypatch)
    monkeypatch.setattr(loop.Loop, "step", lambda *_: 1 / 0)
    assert go(run_dir) == DONE
    history = read(run_dir, "history.json")
    stages = [record["stage"] for record in history["epochs"]]
    name = {"auto": "full"}.get(chosen, chosen)
    assert stages == ["head"] * (0 if chosen == "full" else 3) + [name]
    assert history["best"]["epoch"] == (len(stages) if better > 0 else 3)
    if better > 0:
        measured = read(run_dir, "evaluation.json")["val"]["log_loss"]
        assert measured == pytest.approx(history["best"]["val_loss"], rel=5e-3)
    else:  # The very head; its loss on a random trunk's tiny features depends on how they add up.
        weights = load_file(run_dir / "result" / "weights.safetensors")
        head = load_file(run_dir / "checkpoint" / stage_result.FILE)
        assert torch.equal(weights["classifier.3.weight"], head["weight"])
    assert "time_limit_reached" in codes(run_dir)
    if chosen != "full":
        assert f"kept_{history['best']['stage']}" in codes(run_dir)


@pytest.mark.parametrize("chosen", ["auto", "full"])
def test_without_a_usable_epoch_the_time_is_over_as_if_there_was_none(
    tmp_path: Path,
    dataset: Path,
    weights_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
) -> None:
    limits = {"max_minutes": 10}
    run_dir = order(tmp_path / "run", dataset, weights_dir, strategy=chosen, limits=limits)
    stopped_in_the_second_epoch(run_dir, monkeypatch)
    for path in (run_dir / "checkpoint" / "full").glob("step-*"):
        path.write_bytes(b"torn")
    if chosen == "auto":
        assert go(run_dir) == DONE
        assert read(run_dir, "history.json")["best"]["stage"] == "head"
        assert "full.epochs" not in read(run_dir, "card.json")["plan"]
    else:
        assert go(run_dir) == FAILED
        assert json.loads((run_dir / "error.json").read_text())["code"] == "time_limit_reached"
        assert go(run_dir) == DONE  # A retry has all its time.


def test_all_blocks_learn_in_the_second_half(
    tmp_path: Path, dataset: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, int] = {}
    plain = loop.Loop.close_epoch

    def close_epoch(stage: loop.Loop, *values: Any) -> None:
        learning = [value for value in stage.model.parameters() if value.requires_grad]
        if stage.cut:
            seen[stage.progress.epoch] = len(learning)
        plain(stage, *values)

    monkeypatch.setattr(loop.Loop, "close_epoch", close_epoch)
    numbers = {**SHORT, "epochs": 8}
    run_dir = order(
        tmp_path / "run", dataset, weights_dir, strategy="gradual", hyperparameters=numbers
    )
    assert go(run_dir) == DONE
    counts = [seen[epoch] for epoch in sorted(seen)]
    assert counts == sorted(counts)
    assert len(set(counts[:4])) == 4
    assert set(counts[4:]) == {len(list(zoo.shell(NETWORK).parameters()))}
