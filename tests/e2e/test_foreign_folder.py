"""Started in a folder full of somebody else's modules and programs, nothing of it is run."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.system.machine import cores
from tests.app.apiclient import png
from tests.app.running import Up
from tests.foreign import Foreign
from topwork import Topwork

TOPWORK = (str(Path(sys.executable).with_name("topwork")),)
MODULE = (sys.executable, "-P", "-m", "app.cli")
NIGHTLY = (pytest.mark.chaos, pytest.mark.nightly)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Foreign]:
    """The folder, also in front of PATH as the empty entry that so many profiles have."""
    monkeypatch.setenv("TOPWORK_OFFLINE", "true")
    monkeypatch.setenv("PATH", f":{os.environ['PATH']}")
    made = Foreign(tmp_path / "foreign")
    yield made
    assert made.loaded() == set()
    assert made.untouched()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name, shade in (("bright", 230), ("dark", 20)):
        for number in range(10):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png((shade, shade - number, shade), side=32))
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("program", "devices"),
    [
        pytest.param(TOPWORK, 1, id="console script"),
        # Each further device is a process of its own.
        pytest.param(MODULE, min(2, cores()), id="module", marks=NIGHTLY),
    ],
)
def test_up_a_dry_run_a_job_and_a_prediction(
    foreign: Foreign, images: Path, tmp_path: Path, program: tuple[str, ...], devices: int
) -> None:
    words = ("up", "--port", "0", "--data-dir", str(tmp_path / "data"))
    up = Up(tmp_path / "log", *words, program=program, cwd=foreign.folder)
    try:
        with Topwork(up.wait_said(r"ready at (http://\S+)")) as topwork:
            config: dict[str, Any] = {
                "architecture": "lenet",
                "hyperparameters": {"epochs": 1},
                "devices": devices,
            }
            assert topwork.plan(images, **config).classes == ["bright", "dark"]
            done = topwork.finetune(images, name="shades", **config).wait()
            up.wait_said("predictor is ready")
            answer = topwork.predict(images / "dark" / "0.png", model=str(done.model))
            assert answer[0].label in ("bright", "dark")
        assert up.interrupt()[0] == 0
    finally:
        up.kill()
    assert foreign.loaded() == set(), up.log.read_text()


def run(foreign: Foreign, *words: str) -> dict[str, object] | list[dict[str, object]]:
    done = subprocess.run(
        (*TOPWORK, *words, "--json"),
        cwd=foreign.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.chaos
@pytest.mark.nightly
def test_the_demo(foreign: Foreign, images: Path, tmp_path: Path) -> None:
    places = ("--data", str(images), "--data-dir", str(tmp_path / "data"))
    told = run(foreign, "demo", "--architecture", "lenet", *places)
    assert isinstance(told, dict)
    assert told["agreement"] == 1


@pytest.mark.chaos
def test_every_other_command_that_starts_a_process(foreign: Foreign, tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    found = run(foreign, "doctor", *data)
    assert isinstance(found, list)
    assert not [one for one in found if one["status"] == "fail"]
    import torchvision  # noqa: PLC0415 - it costs seconds, and make test leaves this test out.
    from safetensors.torch import save_file  # noqa: PLC0415 - as above.

    file = tmp_path / "squeezenet1_1.safetensors"
    save_file(torchvision.models.squeezenet1_1().state_dict(), file)
    weights = ("--weights-dir", str(tmp_path / "data/weights"))
    added = run(foreign, "weights", "add", "squeezenet1_1", str(file), *weights)
    assert isinstance(added, dict)
    assert Path(str(added["path"])).is_file()
