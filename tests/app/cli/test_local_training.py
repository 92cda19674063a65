"""`topwork train --output`: a plain folder to an artefact, without any service."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from core.system import locks
from tests.archives import folder as pictures
from tests.conftest import ROOT

SETTINGS = ("-m", "lenet", "-e", "300", "--patience", "none", "--seed", "3")


def command(data: Path, output: Path, *settings: str) -> "subprocess.Popen[str]":
    words = ("-P", "-m", "app.cli", "train", str(data), "-o", str(output), *settings)
    environment = os.environ | {"TOPWORK_OFFLINE": "true", "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=pipe, stderr=pipe, text=True
    )


def ended(data: Path, output: Path, *settings: str) -> tuple[int, str, str]:
    """Return exit code, output and complaints of a command."""
    with command(data, output, *settings) as process:
        told, complaints = process.communicate(timeout=300)
    return process.returncode, told, complaints


def test_a_folder_is_trained_on_and_the_command_goes_on_where_it_was_stopped(
    tmp_path: Path,
) -> None:
    data, output = tmp_path / "pets", tmp_path / "out"
    for name, content in pictures("cat", "dog", count=12).items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)

    with command(data, output, *SETTINGS) as first:
        assert first.stderr is not None
        said = list(itertools.takewhile(lambda line: "epoch 2:" not in line, first.stderr))
        first.send_signal(signal.SIGINT)
        rest = first.communicate(timeout=120)[1]
    assert first.returncode == 130, said
    assert "goes on from here" in rest
    assert not (output / "training" / "result").exists()

    code, told, complaints = ended(data, output, *SETTINGS, "--json")
    assert code == 0, complaints
    artefact = Path(json.loads(told)["model"])
    card = json.loads((artefact / "card.json").read_text())
    assert (card["architecture"], card["classes"]) == ("lenet", ["cat", "dog"])
    epochs = json.loads((artefact / "history.json").read_text())["epochs"]
    assert [one["epoch"] for one in epochs] == list(range(1, 301))
    assert card["exact"]["value"] is True

    with locks.hold(output / "training"):
        code, _, complaints = ended(data, output, *SETTINGS)
        assert code == 1
        assert "another process trains in" in complaints
    weights = (artefact / "weights.safetensors").stat()
    assert ended(data, output, *SETTINGS)[0] == 0
    assert (artefact / "weights.safetensors").stat() == weights, "it was trained again"

    other = command(data, output, *SETTINGS, "--lr", "0.5")
    assert (
        "holds a training on other images or with other settings" in other.communicate(None, 60)[1]
    )
    assert other.returncode == 1
    (data / "cat" / "0.png").unlink()
    code, _, complaints = ended(data, output, *SETTINGS)
    assert "Hint: Name another folder with --output" in complaints
    assert not list(output.glob("*.tar"))


def test_the_output_is_no_part_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    code, _, complaints = ended(tmp_path, tmp_path / "cat" / "out", "-m", "lenet")
    assert code == 2
    assert "would be read as a part of it" in complaints
    assert not (tmp_path / "cat" / "out").exists()


def test_what_has_no_images_and_models_of_a_service_are_refused(tmp_path: Path) -> None:
    for settings, words in (
        (("-m", "lenet"), "There is no"),
        (("-m", "lenet", "--weights", "model:pets"), "Models belong to a service"),
    ):
        code, _, complaints = ended(tmp_path / "none", tmp_path / "out", *settings)
        assert code == 2
        assert words in complaints
        assert not (tmp_path / "out").exists()
