"""One clock over decoding, training and all attempts of a run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.system.run_dir import RunDir
from models.training.deadline import Deadline
from topwork.errors import TimeLimitReached


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    opened = RunDir(tmp_path)
    yield opened
    opened.events.close()


def age(watch: Deadline, seconds: float) -> None:
    """Let the clock have started so long ago."""
    watch._began -= seconds
    watch._noted -= seconds


def test_the_time_of_earlier_attempts_counts(run: RunDir) -> None:
    first = Deadline(run, 2)
    assert not first.reached
    age(first, 70)
    assert not first.reached
    second = Deadline(run, 2)
    assert 70 <= second.spent < 75
    age(second, 55)
    assert second.reached
    assert not Deadline(run, 3).reached


def test_a_retry_after_a_run_without_a_model_has_all_its_time(run: RunDir) -> None:
    watch = Deadline(run, 1)
    watch.check()
    age(watch, 61)
    with pytest.raises(TimeLimitReached):
        watch.check()
    Deadline(run, 1).check()


def test_without_a_limit_nothing_is_written(run: RunDir) -> None:
    watch = Deadline(run, None)
    age(watch, 1e6)
    watch.check()
    assert not list(run.checkpoint.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"spent": null}'])
def test_a_damaged_count_starts_anew(run: RunDir, text: str) -> None:
    (run.checkpoint / "clock.json").write_text(text)
    assert Deadline(run, 1).spent < 1


def test_the_count_is_kept_while_work_goes_on(run: RunDir) -> None:
    watch = Deadline(run, 1)
    age(watch, 30)
    watch.check()
    assert 30 <= json.loads((run.checkpoint / "clock.json").read_text())["spent"] < 40
