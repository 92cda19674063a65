"""The README's commands, run as they stand there against a real service."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.e2e.conftest import Service, png, running, zip_of

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
WRITTEN = ("http://127.0.0.1:8000", "mobilenet_v2")
CLASSES = ("cat", "dog")
STRICT_CURL = "curl() { command curl -sS --fail-with-body -w '\\n' \"$@\"; }\n"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A running service, and a folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "photo.jpg").write_bytes(png(0, seed=99))
    images = {
        f"{name}/{index}.png": png(value, seed=100 * value + index)
        for value, name in enumerate(CLASSES)
        for index in range(10)
    }
    (folder / "pets.zip").write_bytes(zip_of(images))
    weights = folder / "data/weights"
    weights.mkdir(parents=True)
    if SHARED.is_dir():
        shutil.copy(SHARED / "weights/mobilenet_v2.safetensors", weights)
    with running(folder / "data") as service:
        yield service, folder


def adapted(text: str, service: Service) -> str:
    """Put the test's port in, and a network that needs no weights where there are none."""
    address, network = WRITTEN
    text = text.replace(address, service.url)
    return text if SHARED.is_dir() else text.replace(network, "lenet")


def outputs(service: Service, folder: Path, block: str) -> list[dict[str, Any]]:
    """Run a block of shell and return the JSON documents it prints."""
    script = STRICT_CURL + adapted(block, service)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ec", script],  # noqa: S607 - as a reader would.
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_commands(prepared: tuple[Service, Path]) -> None:
    service, folder = prepared
    submit, follow, predict = blocks("bash")
    assert outputs(service, folder, submit) == []
    assert json.loads((folder / "job.json").read_text())["kind"] == "finetune"

    (job,) = outputs(service, folder, follow)
    assert job["state"] == "succeeded", job

    if not SHARED.is_dir():
        predict = predict.splitlines()[0]
    answers = outputs(service, folder, predict)
    assert answers[0]["model"]["name"] == "pets"
    assert {p["label"] for p in answers[0]["results"][0]["predictions"]} == set(CLASSES)
    if SHARED.is_dir():
        assert len(answers[1]["results"][0]["predictions"]) == 5


def test_python_block(prepared: tuple[Service, Path]) -> None:
    service, folder = prepared
    (block,) = blocks("python")
    script = adapted(block, service).replace("Topwork()", f"Topwork({service.url!r})")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] in CLASSES
