"""Memory kills are counted where the kernel says so."""

from pathlib import Path

import pytest

from worker.process.oom_kills import oom_kills


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("memory.events", "low 0\noom 9\noom_kill 7\noom_group_kill 1\n"),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
    ],
)
def test_memory_kills_are_counted(tmp_path: Path, place: str, text: str) -> None:
    assert oom_kills(tmp_path) >= 0  # From /proc/vmstat, where there is one.
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(text)
    assert oom_kills(tmp_path) == 7
