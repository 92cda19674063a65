"""Compare `imbalance: auto` with the plain loss: python bench/skewed.py [--seeds N].

Ten classes of scikit-learn's digits; the number of training images falls geometrically from the
first to the last class, to a fiftieth. Validation (10 a class) and test images (30 a class) are
even, so that macro-F1 asks for every class alike. Both sides train LeNet-5 from scratch with the
same seed, data, epochs and selection metric; the seed also draws which images are there.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from core.system.machine import cores

MOST, RATIO, VAL, TEST = 100, 50, 10, 30


def archive(path: Path, seed: int) -> None:
    """Write one skewed draw of the digits, class after class."""
    data = load_digits()
    rng = np.random.default_rng(seed)
    names = rng.permutation(10)
    with zipfile.ZipFile(path, "w") as file:
        for rank, label in enumerate(names):
            found = rng.permutation(np.flatnonzero(data.target == label))
            size = max(2, round(MOST * RATIO ** (-rank / 9)))
            parts = np.split(found, [VAL, VAL + TEST, VAL + TEST + size])
            for split, chosen in zip(("val", "test", "train"), parts, strict=False):
                for number in chosen:
                    buffer = BytesIO()
                    Image.fromarray((data.images[number] * 255 / 16).astype(np.uint8)).save(
                        buffer, "PNG"
                    )
                    file.writestr(f"{split}/{label}/{number}.png", buffer.getvalue())


def run(module: str, folder: Path, request: dict[str, Any]) -> Path:
    """Run one child process to its end; return its result."""
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps(request))
    subprocess.run([sys.executable, "-m", module, str(folder)], check=True)
    return folder / "result"


def score(folder: Path, dataset: Path, seed: int, imbalance: str) -> tuple[float, float]:
    """Train one side; return macro-F1 and accuracy on the test images."""
    config = {
        "architecture": "lenet",
        "imbalance": imbalance,
        "selection_metric": "macro_f1",
        "seed": seed,
    }
    body = {"config": config, "dataset": str(dataset), "weights_dir": str(folder), "offline": True}
    result = run("models.train", folder / imbalance, body)
    scores = json.loads((result / "evaluation.json").read_text())["test"]
    return scores["macro"]["f1"], scores["accuracy"]


def main() -> None:
    """Run both sides for each seed and print scores, margins and their spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    sides: dict[str, list[tuple[float, float]]] = {"none": [], "auto": []}
    with tempfile.TemporaryDirectory() as name:
        for seed in range(1, seeds + 1):
            folder = Path(name) / str(seed)
            folder.mkdir()
            archive(folder / "skewed.zip", seed)
            dataset = run("core.ingest", folder / "in", {"archive": str(folder / "skewed.zip")})
            for side, scores in sides.items():
                scores.append(score(folder, dataset, seed, side))
    print(f"digits, 1:{RATIO}, LeNet-5 from scratch, {cores()} cores, n = {seeds}")
    for side, scores in sides.items():
        f1, accuracy = zip(*scores, strict=True)
        spread = f"{min(f1):.3f} to {max(f1):.3f}"
        middle = statistics.median(accuracy)
        print(f"{side}: macro-F1 {statistics.median(f1):.3f} ({spread}), accuracy {middle:.3f}")
    pairs = zip(sides["auto"], sides["none"], strict=True)
    margins = sorted(auto[0] - plain[0] for auto, plain in pairs)
    print(f"margin {statistics.median(margins):+.3f} ({margins[0]:+.3f} to {margins[-1]:+.3f})")


if __name__ == "__main__":
    main()
