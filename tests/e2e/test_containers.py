"""The compose stack as its users run it: built, upgraded, restarted, killed, restored, filled."""

import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared/data/hymenoptera.zip"
WEIGHTS = ROOT.parent / "shared/weights"
MINUTES = 50


@pytest.mark.containers
def test_the_stack_survives_what_its_users_do(tmp_path: Path) -> None:
    """TOPWORK_CONTAINERS_WORK keeps the engine, which takes minutes to make, for the next time."""
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip("an engine is made by root on Debian")
    work = Path(os.environ.get("TOPWORK_CONTAINERS_WORK", tmp_path))
    script = ROOT / "deploy/test"
    command = [script / "engine", work, script / "stack"]
    env = os.environ | {
        "PYTHON": sys.executable,
        "TORCH": str(distribution("torch").locate_file("")),
        "DATA": str(DATA) if DATA.is_file() else "",
        "WEIGHTS": str(WEIGHTS) if WEIGHTS.is_dir() else "",
    }
    with subprocess.Popen(command, env=env, start_new_session=True) as stack:
        try:
            assert stack.wait(MINUTES * 60) == 0
        finally:  # Whatever ends the test, the engine and its network are taken down by the script.
            if stack.poll() is None:
                os.killpg(stack.pid, signal.SIGTERM)
                stack.wait(120)
