"""Rows are what was computed whatever becomes of their file while it is in use."""

import os
from pathlib import Path

import numpy as np
import pytest

from core.system.run_dir import DONE
from models.data import cache
from models.data.cache import Cache
from models.data.sources import Indices
from models.training.loop import Loop
from tests.models.data.test_cache import KIND, files, maker, names, nothing, rows, taken, wanted
from tests.models.running import go, outcome
from tests.models.staging import request, striped

EACH = 60 + 40  # Bytes of a row and of its mark.


@pytest.fixture
def _read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "HELD_BYTES", 0)


def flip(path: Path, *places: int) -> None:
    """Change bytes in place, as a bad disk or a careless program does."""
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1]))


@pytest.mark.usefixtures("_read_each_time")
@pytest.mark.parametrize("place", [60 * 7, 60 * 8 - 1, 60 * 20 + 40 * 7, 60 * 20 + 40 * 8 - 1])
def test_a_row_that_changes_in_use_is_made_again(tmp_path: Path, place: int) -> None:
    made: list[int] = []
    found = Cache(tmp_path, nothing).rows(KIND, names(20), maker(made))
    made.clear()
    (file,) = files(tmp_path)
    flip(file, place)
    chosen = np.array([3, 7, 19, 7])
    assert (found.take(chosen) == wanted(20)[chosen]).all()
    assert set(made) == {7}
    assert (taken(found) == wanted(20)).all()
    assert rows(Cache(tmp_path, nothing), 20)[1] == []  # The file is whole again.


@pytest.mark.usefixtures("_read_each_time")
@pytest.mark.parametrize("size", [0, 30, 60 * 20 - 1, 60 * 20 + 41, 20 * EACH - 1])
def test_a_file_that_is_cut_in_use_ends_nothing(tmp_path: Path, size: int) -> None:
    found, _ = rows(Cache(tmp_path, nothing), 20)
    (file,) = files(tmp_path)
    os.truncate(file, size)
    assert (taken(found) == wanted(20)).all()
    assert rows(Cache(tmp_path, nothing), 20)[1] == []


def test_rows_that_are_held_have_left_the_file(tmp_path: Path) -> None:
    found, _ = rows(Cache(tmp_path, nothing), 20)
    into = KIND.empty(20)
    Cache(tmp_path, nothing).rows(KIND, names(20), maker([]), into=into)
    (file,) = files(tmp_path)
    os.truncate(file, 0)
    assert (taken(found) == wanted(20)).all()
    assert (into == wanted(20)).all()


@pytest.mark.parametrize("held", [0, cache.HELD_BYTES])
def test_a_training_whose_pixels_are_damaged_meanwhile_ends_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    dataset = striped(tmp_path / "data", train=16, val=5)
    numbers = {"epochs": 2, "batch_size": 8}
    straight, disturbed = (
        request(tmp_path / name, dataset, architecture="lenet", hyperparameters=numbers)
        for name in ("straight", "disturbed")
    )
    assert go(straight) == DONE
    plain, steps = Loop.step, []

    def one_step(stage: Loop, indices: Indices) -> None:
        steps.append(indices)
        there = files(disturbed / "cache")
        assert len(there) == 2
        for file in there:
            if len(steps) == 4:
                os.truncate(file, 1000)
            else:
                flip(file, *range(0, file.stat().st_size, 1000))
        plain(stage, indices)

    monkeypatch.setattr(cache, "HELD_BYTES", held)
    monkeypatch.setattr(Loop, "step", one_step)
    assert go(disturbed) == DONE
    assert len(steps) == 8
    assert outcome(disturbed) == outcome(straight)
