import threading
from pathlib import Path

import pytest

from core.store import sqlite_write_queue
from core.store.sqlite_write_queue import turn


def test_one_at_a_time_is_first_in_line(tmp_path: Path) -> None:
    passed = threading.Event()

    def second() -> None:
        with turn(tmp_path / "turn"):
            passed.set()

    thread = threading.Thread(target=second)
    with turn(tmp_path / "turn"):
        thread.start()
        assert not passed.wait(0.2)
    assert passed.wait(10)
    thread.join(10)


def test_who_waits_too_long_goes_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_write_queue, "PATIENCE_SECONDS", 0.1)
    with turn(tmp_path / "turn"), turn(tmp_path / "turn"):
        pass


def test_an_error_in_line_leaves_it(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RuntimeError), turn(tmp_path / "turn"):
        raise RuntimeError
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with turn(tmp_path / "turn"):
        pass
