"""Who may load what: the contracts hold, each one bites, and the light processes stay light."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "core", "models", "worker")
HEAVY = {"torch", "torchvision"}

# One import per contract that breaks it, in a module of its own.
BREACHES = {
    "app/seed.py": "import worker\nimport models.predict\n",
    "core/seed.py": "import fastapi\n",
    "models/seed.py": "import celery\nimport core.settings\n",
    "worker/seed.py": "import models.train\nimport torch\n",
}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def contracts(folder: Path) -> dict[str, bool]:
    """Run the import contracts on a folder; return whether each one is kept."""
    run = "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    output = python("-c", run, cwd=folder).stdout
    verdicts = [line.rsplit(" ", 1) for line in output.splitlines()]
    return {v[0]: v[1] == "KEPT" for v in verdicts if v[-1] in {"KEPT", "BROKEN"}}


def test_contracts_hold_and_each_one_bites(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "static")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    kept = contracts(tmp_path)
    assert len(kept) == 7
    assert all(kept.values()), kept

    for path, text in BREACHES.items():
        (tmp_path / path).write_text(text)
    broken = contracts(tmp_path)
    assert broken.keys() == kept.keys()
    assert not any(broken.values()), broken


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("app.main", HEAVY),
        ("app.cli", HEAVY | {"numpy", "PIL", "sklearn"}),
        ("worker.tasks", HEAVY),
        ("models.config", HEAVY | {"numpy", "PIL"}),
        ("models.catalogue", HEAVY | {"numpy", "PIL"}),
        ("core.migrate", HEAVY | {"numpy", "PIL", "celery"}),
    ],
)
def test_importing_stays_light(module: str, forbidden: set[str]) -> None:
    loaded = python("-c", f"import {module}, sys; print(*sys.modules)", cwd=ROOT)
    assert loaded.returncode == 0, loaded.stderr
    assert not forbidden & set(loaded.stdout.split())
