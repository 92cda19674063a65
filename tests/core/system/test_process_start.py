"""Processes begin with private files and with three open descriptors, however they are started."""

import os
import stat
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

from core.system.child import python

CLOSED = [some for count in (1, 2, 3) for some in combinations(range(3), count)]
BEGINS = """
import os, sys
from core.system import process_start
process_start.begin()
first = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
for stream in (sys.stdout, sys.stderr):
    print("said", file=stream, flush=True)
sys.stdin.fileno()
os.write(first, b"kept")
os.system("echo said; echo said >&2")  # What is started in turn has them, too.
"""


def started(*words: str, closed: tuple[int, ...], **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a process with some descriptors closed, in the most open of masks."""
    child = python(*words, env={**os.environ, **env})
    close = " ".join(f"{number}>&-" for number in closed)
    shell = ["sh", "-c", f'umask 0; exec "$@" {close}', "sh", *child.command]
    return subprocess.run(shell, env=child.env, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_what_is_printed_goes_into_no_file_of_the_process(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    file = tmp_path / "opened"
    done = started("-c", BEGINS, str(file), closed=closed)
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == b"kept"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert done.stdout == (b"" if 1 in closed else b"said\nsaid\n")


def test_a_database_is_private_in_a_folder_that_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o777)
    done = started("-m", "core.store.migrate", closed=(0, 1, 2), TOPWORK_DATA_DIR=str(folder))
    assert done.returncode == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes["topwork.db"] == 0o600, modes
    assert not any(mode & 0o077 for mode in modes.values()), modes
