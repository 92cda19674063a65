"""The compose stack as its users run it: built, started, restarted, killed, restored."""

import os
import shutil
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared/data/hymenoptera.zip"
MINUTES = 50


@pytest.mark.containers
def test_the_stack_survives_what_its_users_do(tmp_path: Path) -> None:
    """TOPWORK_CONTAINERS_WORK keeps the engine, which takes minutes to make, for the next time."""
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip("an engine is made by root on Debian")
    work = Path(os.environ.get("TOPWORK_CONTAINERS_WORK", tmp_path))
    script = ROOT / "deploy/test"
    command = [script / "engine", work, script / "stack", *([DATA] if DATA.is_file() else [])]
    env = os.environ | {"TORCH": str(distribution("torch").locate_file(""))}
    assert subprocess.run(command, env=env, timeout=MINUTES * 60, check=False).returncode == 0
