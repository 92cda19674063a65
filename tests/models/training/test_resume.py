"""What a run does with checkpoints that were damaged after they had been written."""

from pathlib import Path
from typing import Any

import pytest

from core.rundir import DONE, STOPPED
from models.training import checkpoint, loop
from tests.models.running import go, outcome
from tests.models.staging import events, request, striped


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return striped(tmp_path_factory.mktemp("stripes") / "data", train=24, val=8)


def lenet(folder: Path, dataset: Path) -> Path:
    numbers = {"epochs": 3, "batch_size": 16}
    return request(folder, dataset, architecture="lenet", hyperparameters=numbers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> tuple[Any, bytes]:
    """What comes out when nothing is damaged."""
    run_dir = lenet(tmp_path_factory.mktemp("whole") / "run", dataset)
    assert go(run_dir) == DONE
    return outcome(run_dir)


def stop_at(step: int, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Run until a step of the run, saving after each; return the checkpoints, newest first."""
    plain = loop.Fit.one_step

    def one_step(fit: loop.Fit, indices: loop.Indices) -> None:
        plain(fit, indices)
        fit.run.stopping = (fit.now.epoch - 1) * fit.steps + fit.now.step >= step

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_SHARE", 0)
        patch.setattr(loop, "SAVE_SECONDS", 0)
        patch.setattr(loop.Fit, "one_step", one_step)
        assert go(run_dir) == STOPPED
    return checkpoint.newest_first(run_dir / "checkpoint" / "full")


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
