"""The demo's parts, and the whole of it once on a small folder with every real process."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.demo import main_job
from app.demo.samples import digits, images_in
from app.terminal.output import Terminal
from core.system.settings import Settings
from models.weights import local_weights
from tests.app.apiclient import png
from tests.app.processes import mentioning
from tests.topwork.examples import PREDICTION, RESULT
from topwork import types
from topwork.errors import WeightsUnavailable

FILES = {"cat/1.png": b"one", "dog/2.png": b"two", "dog/deep/3.png": b"three"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "pets"


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz"])
def test_every_file_of_any_source_is_found(folder: Path, tmp_path: Path, form: str) -> None:
    source = folder if form == "folder" else tmp_path / f"pets.{form}"
    if form == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            archive.mkdir("cat")
            for name, data in FILES.items():
                archive.writestr(name, data)
    elif form != "folder":
        with tarfile.open(source, "w:gz" if form == "tar.gz" else "w") as archive:
            archive.add(folder, ".")
    assert {name.removeprefix("./"): data for name, data in images_in(source)} == FILES


def test_the_digits_are_all_there_and_look_like_digits(tmp_path: Path) -> None:
    folder = digits(tmp_path / "digits")
    counts = {path.name: len(list(path.iterdir())) for path in folder.iterdir()}
    assert sum(counts.values()) == 1797
    assert counts.keys() == {str(digit) for digit in range(10)}
    assert min(counts.values()) > 170
    with Image.open(folder / "0" / "0000.png") as zero:
        assert zero.size == (32, 32)
        assert zero.getpixel((16, 16)) == 0  # The hole of a nought,
        assert max(zero.tobytes()) > 200  # and its ring.


class Network:
    """A host that is away, or one whose file is this."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, data: bytes | None) -> None:
        self.asked: list[str] = []
        self._data = data
        monkeypatch.setattr(main_job, "download", self._download)

    def _download(self, url: str, target: Path, **_options: Any) -> None:
        self.asked.append(url)
        if self._data is None:
            raise WeightsUnavailable("the host is away")
        target.write_bytes(self._data)


def test_weights_on_this_machine_are_taken_without_asking_anyone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network(monkeypatch, None)
    settings.weights_dir.mkdir()
    for name in ("convnext_large", "resnet18"):
        (settings.weights_dir / f"{name}.safetensors").touch()
    assert main_job.choose(Terminal(), settings, None)["architecture"] == "resnet18"
    (settings.weights_dir / "mobilenet_v2.safetensors").touch()
    chosen = main_job.choose(Terminal(), settings, None)
    assert chosen == {"architecture": "mobilenet_v2", "weights": "imagenet", "strategy": "head"}
    assert "Fine-tuning mobilenet_v2" in capsys.readouterr().err
    assert network.asked == []


def test_an_unreachable_host_means_lenet_from_scratch_and_it_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    online = settings.model_copy(update={"offline": False})
    network = Network(monkeypatch, None)
    chosen = main_job.choose(Terminal(), online, None)
    assert (chosen["architecture"], chosen["weights"]) == ("lenet", "none")
    said = capsys.readouterr().err
    assert "the host is away" in said
    assert "Training lenet from scratch" in said
    assert len(network.asked) == 1

    offline = Network(monkeypatch, None)
    assert main_job.choose(Terminal(), settings, None)["architecture"] == "lenet"
    assert offline.asked == []


def test_downloaded_weights_are_added_and_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = settings.model_copy(update={"offline": False})
    Network(monkeypatch, b"published")
    added: list[tuple[str, bytes, Path]] = []
    monkeypatch.setattr(
        local_weights,
        "add",
        lambda name, file, folder: added.append((name, file.read_bytes(), folder)),
    )
    assert main_job.choose(Terminal(), online, None)["architecture"] == "mobilenet_v2"
    assert added == [("mobilenet_v2", b"published", settings.weights_dir)]


class Topwork:
    """A service that labels every image with its own bytes, and remembers its evaluation."""

    def __init__(self, rows: list[types.EvaluatedImage]) -> None:
        self.models = self
        self._rows = rows

    def predictions(self, _name: str, _number: int) -> list[types.EvaluatedImage]:
        return self._rows

    def predict(self, images: list[bytes], **_options: Any) -> Any:
        results = [{**RESULT, "label": data.decode(), "confidence": 0.5} for data in images]
        return types.Prediction.model_validate({**PREDICTION, "results": results})


def row(data: bytes, label: str, split: str = "val", truth: str = "one") -> types.EvaluatedImage:
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "path": label, "split": split}
    told = {"class": truth, "label": label, "confidence": 0.5}
    return types.EvaluatedImage.model_validate(facts | told)


def test_only_validation_images_are_compared_and_differences_are_counted(folder: Path) -> None:
    rows = [row(b"one", "one"), row(b"two", "three"), row(b"three", "three", split="test")]
    served = main_job.compare(Topwork(rows), folder, 1)  # type: ignore[arg-type]
    assert (served.images, served.agreeing, served.right) == (2, 1, 1)


def test_an_evaluated_image_that_is_not_in_the_source_fails(folder: Path) -> None:
    with pytest.raises(main_job.DemoFailed, match="1 evaluated images are not in"):
        main_job.compare(Topwork([row(b"one", "one"), row(b"else", "x")]), folder, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accuracy", "agreeing", "goal", "words"),
    [
        (0.94, 100, 0.95, "0.940, below 0.95"),
        (0.99, 99, 0.95, "99 of 100 images"),
        (0.99, 99, None, "99 of 100 images"),
    ],
)
def test_a_goal_that_is_missed_fails(
    accuracy: float, agreeing: int, goal: float | None, words: str
) -> None:
    served = main_job.Served(100, agreeing, 94, [])
    evaluation = types.Evaluation(splits={"val": types.SplitEvaluation(accuracy=accuracy)})
    with pytest.raises(main_job.DemoFailed, match=words):
        main_job.report(Terminal(), {}, evaluation, served, main_job.Stopwatch(), goal=goal)


def test_the_whole_demo_on_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Real supervisor, broker, api, worker, trainer and predictor."""
    for name, shade in (("bright", 230), ("dark", 20)):
        for number in range(10):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png((shade, shade - number, shade), side=32))
    environment = {**os.environ, "TOPWORK_OFFLINE": "true", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        (sys.executable, "-m", "app.cli", "demo", "--json", "--architecture", "lenet",
         "--data", tmp_path / "images", "--data-dir", tmp_path / "data"),
        capture_output=True, text=True, check=False, env=environment,
        cwd=Path(__file__).resolve().parents[3], timeout=240,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["validation_images"] == 4
    assert result["agreement"] == 1
    assert result["seconds"]["stop"] <= 10
    assert list((tmp_path / "data" / "tmp").iterdir()) == []
    assert mentioning(str(tmp_path)) == []
