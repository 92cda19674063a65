"""What a run does with checkpoints that were damaged, or made under other conditions."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.system.run_dir import DONE, STOPPED
from models.data.sources import Indices
from models.inference import artefact
from models.training import checkpoint, loop, resume
from tests.models.running import go, outcome
from tests.models.staging import events, request, striped


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return striped(tmp_path_factory.mktemp("stripes") / "data", train=24, val=8)


def lenet(folder: Path, dataset: Path, **config: Any) -> Path:
    numbers = {"epochs": 3, "batch_size": 16}
    return request(folder, dataset, architecture="lenet", hyperparameters=numbers, **config)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> tuple[Any, bytes]:
    """What comes out when nothing is damaged."""
    run_dir = lenet(tmp_path_factory.mktemp("whole") / "run", dataset)
    assert go(run_dir) == DONE
    return outcome(run_dir)


def stop_at(step: int, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Run until a step of the run, saving after each; return the checkpoints, newest first."""
    plain = loop.Loop.step

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        plain(stage, indices)
        stage.fit.run.stopping = stage.steps_done >= step

    with monkeypatch.context() as patch:
        patch.setattr(resume, "SAVE_SHARE", 0)
        patch.setattr(resume, "SAVE_SECONDS", 0)
        patch.setattr(loop.Loop, "step", one_step)
        assert go(run_dir) == STOPPED
    return checkpoint.newest_first(run_dir / "checkpoint" / "full")


@pytest.mark.parametrize(("limits", "kept"), [({}, []), ({"max_minutes": 60}, ["step-0000000009"])])
def test_the_end_is_saved_where_it_may_not_be_reached_again(
    tmp_path: Path,
    dataset: Path,
    whole: tuple[Any, bytes],
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, float],
    kept: list[str],
) -> None:
    """A save that may cost more than its share waits, unless the time may be over next time."""
    monkeypatch.setattr(resume, "WRITE_RATE", 1.0)
    run_dir = lenet(tmp_path / "run", dataset, limits=limits)
    with monkeypatch.context() as patch:
        patch.setattr(artefact, "write", lambda *_, **__: 1 / 0)
        assert go(run_dir) not in {DONE, STOPPED}
    found = checkpoint.newest_first(run_dir / "checkpoint" / "full")
    assert [path.stem for path in found] == kept
    assert go(run_dir) == DONE
    assert outcome(run_dir) == whole


def damage(path: Path) -> None:
    """Change one byte in the middle, without touching what hard links to the file share."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_cost_nothing_but_time(
    tmp_path: Path,
    dataset: Path,
    whole: tuple[Any, bytes],
    monkeypatch: pytest.MonkeyPatch,
    damaged: int,
) -> None:
    """The older one is used, or none; either way the run says so and ends with the same bits."""
    run_dir = lenet(tmp_path / "run", dataset)
    found = stop_at(5, run_dir, monkeypatch)
    assert len(found) == 2
    for path in found[:damaged]:
        damage(path)
    assert go(run_dir) == DONE
    assert outcome(run_dir) == whole
    notes = [note["code"] for note in events(run_dir, "note")]
    assert notes.count("checkpoint_damaged") == damaged
    assert [event["epoch"] for event in events(run_dir, "epoch")] == [1, 2, 3]


def test_a_damaged_file_of_best_weights_spoils_what_names_it(
    tmp_path: Path, dataset: Path, whole: tuple[Any, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = lenet(tmp_path / "run", dataset)
    stop_at(5, run_dir, monkeypatch)
    (best,) = (run_dir / "checkpoint" / "full").glob("best-*.safetensors")
    damage(best)
    assert go(run_dir) == DONE
    assert outcome(run_dir) == whole
    assert "checkpoint_damaged" in [note["code"] for note in events(run_dir, "note")]


def test_best_weights_of_another_run_are_not_taken_for_those_of_this_one(
    tmp_path: Path, dataset: Path, whole: tuple[Any, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is whole and has the right name; only its hash gives it away."""
    run_dir = lenet(tmp_path / "run", dataset)
    stop_at(5, run_dir, monkeypatch)
    (best,) = (run_dir / "checkpoint" / "full").glob("best-*.safetensors")
    tensors, state = checkpoint.read(best)
    checkpoint.write(best, {name: value + 1 for name, value in tensors.items()}, state)
    assert go(run_dir) == DONE
    assert outcome(run_dir) == whole
    assert "checkpoint_damaged" in [note["code"] for note in events(run_dir, "note")]


@pytest.mark.parametrize("which", ["model", "best"])
def test_a_checkpoint_that_does_not_fit_the_network_is_not_used(
    tmp_path: Path,
    dataset: Path,
    whole: tuple[Any, bytes],
    monkeypatch: pytest.MonkeyPatch,
    which: str,
) -> None:
    """Whole and of this very run, but its tensors have names as another torchvision gave them."""
    run_dir = lenet(tmp_path / "run", dataset)
    found = stop_at(5, run_dir, monkeypatch)
    paths = found if which == "model" else (run_dir / "checkpoint/full").glob("best-*.safetensors")
    for path in paths:
        tensors, state = checkpoint.read(path)
        prefix = "model." if which == "model" else ""
        tensors[f"{prefix}older.weight"] = tensors.pop(f"{prefix}features.0.weight")
        checkpoint.write(path, tensors, state)
    if which == "best":
        for path in found:
            tensors, state = checkpoint.read(path)
            state["best_seal"] = checkpoint.seal(run_dir / "checkpoint/full" / state["best_file"])
            checkpoint.write(path, tensors, state)
    assert go(run_dir) == DONE
    assert outcome(run_dir) == whole
    assert [note["code"] for note in events(run_dir, "note")].count("checkpoint_damaged") == 2


@pytest.mark.parametrize("name", ["torch", "torchvision", "numpy", "pillow", "topwork", "threads"])
def test_under_other_conditions_it_goes_on_and_says_that_bits_may_differ(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run_dir = lenet(tmp_path / "run", dataset)
    for path in stop_at(5, run_dir, monkeypatch):
        tensors, state = checkpoint.read(path)
        state["key"]["machine"][name] = "another"
        checkpoint.write(path, tensors, state)
    steps = count_steps(monkeypatch)
    assert go(run_dir) == DONE
    assert len(steps) == 4  # Of 3 epochs with 3 steps; 5 were done before.
    exact = json.loads((run_dir / "result" / "card.json").read_text())["exact"]
    assert exact["value"] is False
    (reason,) = exact["reason"]
    assert reason.startswith(f"{name}: another -> ")
    assert "resumed_inexactly" in [note["code"] for note in events(run_dir, "note")]


def test_another_order_of_the_classes_starts_anew(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images and their classes' names are the same; each output means another class."""
    turned = tmp_path / "turned"
    shutil.copytree(dataset, turned)
    summary = json.loads((turned / "dataset.json").read_text())
    other = json.dumps(summary | {"classes": summary["classes"][::-1]})
    run_dir = lenet(tmp_path / "run", turned)
    stop_at(5, run_dir, monkeypatch)
    (turned / "dataset.json").write_text(other)
    steps = count_steps(monkeypatch)
    assert go(run_dir) == DONE
    assert len(steps) == 9
    straight = lenet(tmp_path / "straight", turned)
    assert go(straight) == DONE
    assert outcome(run_dir) == outcome(straight)


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one with each step."""
    plain = loop.Loop.step
    steps: list[int] = []

    def one_step(stage: loop.Loop, indices: Indices) -> None:
        steps.append(stage.steps_done)
        plain(stage, indices)

    monkeypatch.setattr(loop.Loop, "step", one_step)
    return steps
