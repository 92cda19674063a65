"""The accuracies promised for real data; minutes on a busy machine, hence nightly."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bench import skewed
from core.imaging.decode import probe
from core.system.run_dir import DONE
from tests.models.staging import Labelled, png, request, stage, start
from topwork.errors import ImageUndecodable

pytestmark = pytest.mark.slow


def evaluation(run_dir: Path) -> dict[str, Any]:
    assert start(run_dir).wait(280) == DONE
    found: dict[str, Any] = json.loads((run_dir / "result" / "evaluation.json").read_text())
    return found


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = load_digits()
    held_out = set(np.random.default_rng(0).permutation(len(data.target))[:360].tolist())
    images: list[Labelled] = [
        ("val" if n in held_out else "train", str(label), png((pixels * 255 / 16).astype(np.uint8)))
        for n, (pixels, label) in enumerate(zip(data.images, data.target, strict=True))
    ]
    return stage(tmp_path_factory.mktemp("digits") / "data", images)


@pytest.fixture(scope="session")
def insects(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    images: list[Labelled] = []
    with zipfile.ZipFile(shared / "data" / "hymenoptera.zip") as archive:
        for name in sorted(archive.namelist()):
            parts = Path(name).parts
            if not name.endswith("/"):
                data = archive.read(name)
                try:
                    probe(data)
                except ImageUndecodable:
                    continue
                images.append((parts[-3], parts[-2], data))
    return stage(tmp_path_factory.mktemp("insects") / "data", images)


def pretrained_head(folder: Path, data: Path, shared: Path) -> Path:
    weights = shared / "weights"
    return request(folder, data, weights, architecture="mobilenet_v2", strategy="head")


def test_lenet_learns_digits_from_scratch(tmp_path: Path, digits: Path) -> None:
    run_dir = request(tmp_path / "run", digits, architecture="lenet")
    assert evaluation(run_dir)["val"]["accuracy"] >= 0.97


def test_a_pretrained_head_tells_ants_from_bees(
    tmp_path: Path, insects: Path, shared: Path
) -> None:
    run_dir = pretrained_head(tmp_path / "run", insects, shared)
    assert evaluation(run_dir)["val"]["accuracy"] >= 0.935


def test_a_pretrained_head_reads_digits(tmp_path: Path, digits: Path, shared: Path) -> None:
    run_dir = pretrained_head(tmp_path / "run", digits, shared)
    assert evaluation(run_dir)["val"]["accuracy"] >= 0.95


def test_a_skewed_set_is_learned_more_evenly_than_by_the_plain_loss(tmp_path: Path) -> None:
    margins = []
    for seed in (1, 2):
        path = tmp_path / f"{seed}.zip"
        skewed.archive(path, seed)
        dataset = skewed.run("core.ingest", tmp_path / f"in{seed}", {"archive": str(path)})
        scores = {
            side: skewed.score(tmp_path / f"run{seed}", dataset, seed, side)[0]
            for side in ("auto", "none")
        }
        margins.append(scores["auto"] - scores["none"])
    assert sum(margins) / len(margins) > 0.005
