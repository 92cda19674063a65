"""A crash is explained by what its own attempt said last."""

from pathlib import Path

import pytest

from worker import attempt
from worker.outcomes import Crashed
from worker.process.job_process import Ending, Exit
from worker.runner import raise_for


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "it said nothing"),
        (f"words before\n{attempt.marker(2)}\n", "it said nothing"),
        (f"{attempt.marker(2)}\nTraceback\nRuntimeError: boom\n", "RuntimeError: boom"),
        (f"{attempt.marker(2)}\nbo\0om\n\0", "boom"),
    ],
)
def test_a_crash_quotes_only_its_own_attempt(tmp_path: Path, said: str, reason: str) -> None:
    folder = tmp_path / "2"
    folder.mkdir()
    (folder / "log.txt").write_text(said)
    with pytest.raises(Crashed, match=f"killed by SIGKILL: {reason}$"):
        raise_for(Exit(Ending.CRASHED, 137), folder)
