import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.system import failpoints

WRITES = """
import sys
from pathlib import Path
from core.system.atomic_files import write_atomically
for number in range(3):
    write_atomically(Path(sys.argv[1]), str(number).encode())
"""


def write(file: Path, order: str) -> subprocess.CompletedProcess[str]:
    """Write 0, 1 and 2 into a file, one after the other, under orders."""
    command = [sys.executable, "-c", WRITES, str(file)]
    env = os.environ | {failpoints.VARIABLE: order}
    return subprocess.run(command, env=env, check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("order", "left"),
    [
        ("durable.before_sync=kill@2", "0"),
        ("durable.before_rename=kill@2", "0"),
        ("durable.after_rename=kill@2", "1"),
    ],
)
def test_a_kill_around_a_rename_leaves_the_old_file_or_the_new(
    tmp_path: Path, order: str, left: str
) -> None:
    done = write(tmp_path / "file", order)
    assert done.returncode == -9
    assert (tmp_path / "file").read_text() == left


def test_an_errno_is_raised_where_it_was_ordered(tmp_path: Path) -> None:
    done = write(tmp_path / "file", "durable.before_sync=ENOSPC@3")
    assert "No space left on device" in done.stderr
    assert (tmp_path / "file").read_text() == "1"


def test_an_order_for_one_process_spares_the_next(tmp_path: Path) -> None:
    order = f"durable.before_sync=kill?{tmp_path / 'mark'}"
    assert write(tmp_path / "file", order).returncode == -9
    assert write(tmp_path / "file", order).returncode == 0


@pytest.mark.parametrize("order", ["durable.typo=kill", "durable.before_sync", "=kill"])
def test_an_order_without_meaning_is_refused(tmp_path: Path, order: str) -> None:
    assert "has no meaning here" in write(tmp_path / "file", order).stderr


def test_without_orders_nothing_happens(tmp_path: Path) -> None:
    assert write(tmp_path / "file", "").returncode == 0
    assert (tmp_path / "file").read_text() == "2"
