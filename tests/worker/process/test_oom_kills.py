"""Memory kills are counted where the kernel says so."""

from pathlib import Path

import pytest

from worker.process import oom_kills


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("memory.events", "low 0\noom 9\noom_kill 7\noom_group_kill 1\n"),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
    ],
)
def test_memory_kills_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, text: str
) -> None:
    monkeypatch.setattr(oom_kills, "CGROUPS", tmp_path)
    assert oom_kills.oom_kills() >= 0  # From /proc/vmstat, where there is one.
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(text)
    assert oom_kills.oom_kills() == 7
