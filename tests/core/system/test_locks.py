import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.system.locks import hold, remove_unused, take, try_lock

HOLD = """
import sys
from pathlib import Path
from core.system.locks import take
take(Path(sys.argv[1]), shared=sys.argv[2] == "shared", create=True)
print("held", flush=True)
sys.stdin.read()
"""


def other_process(path: Path, kind: str = "alone") -> subprocess.Popen[bytes]:
    """Return a process that holds the lock until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(path), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with other_process(path) as process:
        with pytest.raises(BlockingIOError, match="holds lock"), hold(path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with hold(path):
        pass


def test_shared_locks_go_together_and_keep_out_who_wants_it_alone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    handles = [take(folder, shared=True), take(folder, shared=True)]
    with pytest.raises(BlockingIOError):
        take(folder)
    for handle in handles:
        os.close(handle)
    with hold(folder):
        pass


def test_a_file_that_is_held_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    handle = take(path, shared=True)
    assert not remove_unused(path)
    assert path.exists()
    os.close(handle)
    assert remove_unused(path)
    assert not path.exists()
    assert remove_unused(path)


def test_nobody_holds_a_name_that_means_another_file_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, newer = tmp_path / "lock", tmp_path / "newer"
    path.touch()
    newer.touch()
    opened = os.open

    def replaced(*args: object) -> int:
        handle = opened(*args)  # type: ignore[arg-type] # As it was called.
        if newer.exists():
            newer.rename(path)
        return handle

    monkeypatch.setattr(os, "open", replaced)
    with hold(path) as handle:
        assert os.path.samestat(os.fstat(handle), path.stat())
        with pytest.raises(BlockingIOError):
            take(path)


def test_only_who_creates_makes_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        take(tmp_path / "lock")
    with hold(tmp_path / "lock", create=True) as handle:
        assert not os.get_inheritable(handle)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_who_does_not_get_it_keeps_nothing_open(tmp_path: Path) -> None:
    with hold(tmp_path / "lock", create=True):
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(BlockingIOError):
            take(tmp_path / "lock")
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_patience_ends_and_a_lock_changes_its_kind(tmp_path: Path) -> None:
    with hold(tmp_path / "lock", create=True) as mine:
        other = os.open(tmp_path / "lock", os.O_RDWR)
        assert not try_lock(other, patience=0.05)
        assert try_lock(mine, shared=True)
        assert try_lock(other, shared=True)
        assert not try_lock(other)
        os.close(other)
