"""Clients that three generators make of the OpenAPI document upload, fine-tune and predict.

`make test ARGS='-m clients'` installs the generators into `build/clients`, from PyPI and npm.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import Service, png

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]
HERE = Path(__file__).parent
TOOLS = ROOT / "build" / "clients"
CLASSES = {"nw", "ne", "sw", "se"}


def done(folder: Path, *command: str) -> str:
    """Run a command of the generators' environment; return what it prints."""
    path = f"{TOOLS / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def generators() -> None:
    """Install the generators and Node.js in an environment of their own, which is kept."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", TOOLS)
    done(TOOLS, sys.executable, "-m", "venv", "env")
    done(
        TOOLS, "env/bin/pip", "install", "--quiet", "--requirement", str(HERE / "requirements.txt")
    )
    done(TOOLS, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error")


@pytest.fixture(scope="module")
def folder(
    generators: None,  # noqa: ARG001 - their folder is linked here.
    service: Service,
    blocks: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Programs, the document of a running service, images to train on and one to ask about."""
    made = tmp_path_factory.mktemp("generated")
    for program in HERE.iterdir():
        if program.suffix in (".py", ".ts", ".js", ".json"):
            shutil.copy(program, made)
    (made / "node_modules").symlink_to(TOOLS / "node_modules")
    (made / "openapi.json").write_bytes(service.http.get("/openapi.json").content)
    (made / "pets.zip").write_bytes(blocks)
    (made / "one.png").write_bytes(png(0, 9))
    return made


@pytest.fixture(scope="module")
def typescript(folder: Path) -> Path:
    """Both clients in TypeScript, generated and compiled."""
    done(folder, "npx", "--no-install", "openapi-ts", "-f", "hey.config.js")
    options = ("--default-non-nullable", "false", "-o", "schema.d.ts")
    done(folder, "npx", "--no-install", "openapi-typescript", "openapi.json", *options)
    done(folder, "npx", "--no-install", "tsc")
    return folder / "built"


def test_openapi_python_client(service: Service, folder: Path) -> None:
    said = done(
        folder, "openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none",
        "--output-path", "client", "--config", "python.json",
    )  # fmt: skip
    assert "Unable to process schema" not in said
    assert "Endpoint will not be generated" not in said
    done(folder, "python", "-m", "compileall", "-q", "client")
    assert done(folder, "python", "main.py", service.url, "pets.zip", "one.png").strip() in CLASSES


@pytest.mark.parametrize("program", ["hey.js", "fetch.js"])
def test_clients_in_typescript(service: Service, typescript: Path, program: str) -> None:
    command = ("node", str(typescript / program), service.url, "pets.zip", "one.png")
    assert done(typescript.parent, *command).strip() in CLASSES
