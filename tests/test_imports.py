"""Who may load what: the contracts hold, each one bites, and the light processes stay light."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "core", "models", "topwork", "worker")
HEAVY = {"torch", "torchvision"}
STANDARD = {*sys.stdlib_module_names, "compression"}  # That came with Python 3.14.

# One import per contract that breaks it, in a module of its own.
BREACHES = {
    "app/asgi/seed.py": "import app.api.main\nimport core.domain.jobs\n",
    "core/system/seed.py": "import fastapi\n",
    "models/compute/seed.py": "import celery\nimport models.training.loop\n",
    "topwork/client/seed.py": "import core.system.settings\n",
    "worker/seed.py": "import models.training.loop\nimport torch\n",
}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    wide = {**os.environ, "COLUMNS": "200"}  # Else import-linter breaks its lines.
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=wide, capture_output=True, text=True, check=False
    )


def contracts(folder: Path) -> dict[str, bool]:
    """Run the import contracts on a folder; return whether each one is kept."""
    run = "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    output = python("-c", run, cwd=folder).stdout
    verdicts = re.findall(r"^(.*) (KEPT|BROKEN)", output, re.MULTILINE)
    return {name: verdict == "KEPT" for name, verdict in verdicts}


def test_contracts_hold_and_each_one_bites(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "static")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    kept = contracts(tmp_path)
    assert len(kept) == 8
    assert all(kept.values()), kept

    for path, text in BREACHES.items():
        (tmp_path / path).write_text(text)
    broken = contracts(tmp_path)
    assert broken.keys() == kept.keys()
    assert not any(broken.values()), broken


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("app.api.main", HEAVY),
        ("app.cli", HEAVY | {"numpy", "PIL", "sklearn", "sqlalchemy"}),
        ("worker.tasks", HEAVY),
        ("models.planning.catalogue", HEAVY | {"numpy", "PIL"}),
        ("topwork.errors", HEAVY | {"numpy", "PIL", "pydantic", "httpx2"}),
        ("topwork.kinds", HEAVY | {"numpy", "PIL", "pydantic", "httpx2"}),
        ("topwork.types", HEAVY | {"numpy", "PIL", "pydantic", "httpx2"}),
        ("topwork.types.training", HEAVY | {"numpy", "PIL", "topwork.types.jobs"}),
        ("topwork.client.synchronous.service", HEAVY | {"numpy", "PIL"}),
        ("core.ingest.__main__", HEAVY | {"pydantic"}),
        ("models.planning.plan", HEAVY | {"numpy", "PIL"}),
        ("models.weights.local_weights", HEAVY | {"numpy", "PIL"}),
        ("core.store.migrate", HEAVY | {"numpy", "PIL", "celery"}),
    ],
)
def test_importing_stays_light(module: str, forbidden: set[str]) -> None:
    loaded = python("-c", f"import {module}, sys; print(*sys.modules)", cwd=ROOT)
    assert loaded.returncode == 0, loaded.stderr
    assert not forbidden & set(loaded.stdout.split())


def test_importing_a_module_changes_nothing_of_the_process() -> None:
    ran = python("-P", str(ROOT / "tests/quiet_imports.py"), cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["modules"] > 300
    assert said["changed"] == {}


def imported(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_every_import_is_declared_and_torch_only_as_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    normal = [re.split(r"[\[<>=;! ]", line)[0] for line in project["dependencies"]]
    more = extras["torch"] + extras["demo"] + extras["openvino"]
    runtime = [*normal, *(re.split(r"[<>=]", line)[0] for line in more)]
    below = [re.split(r"[\[<>=]", line)[0] for line in extras["postgres"] + extras["heic"]]
    alone = tomllib.loads((ROOT / "topwork/pyproject.toml").read_text())["project"]
    # Pydantic pins its core to one version, and documents its errors under that name.
    client = [re.split(r"[<>=]", line)[0] for line in alone["dependencies"]]
    modules = {
        name: {canonicalize_name(dist) for dist in dists}
        for name, dists in packages_distributions().items()
    }
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for name in set(imported(path)) - STANDARD - set(PACKAGES):
                declared = runtime if package in {"app", "models"} else [*normal, *below]
                declared = [*client, "pydantic-core"] if package == "topwork" else declared
                assert modules[name] & set(declared), f"{path.relative_to(ROOT)}: {name}"
    assert not HEAVY & set(normal)
    assert set(client) == {"httpx2", "pydantic"}
