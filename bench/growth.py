"""Show how ingest and a head run grow with images and classes: python bench/growth.py.

Images are 32 x 32 pixels of noise, the trunk is mobilenet_v3_small with random weights at 32
pixels, five epochs: what is measured is everything around the network. "Each" is the price of one
more image, or class, against the row before; where growth is linear, it stays the same.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from bench import plain

SIDE = 32
ARCHITECTURE = "mobilenet_v3_small"
NUMBERS = {"epochs": 5, "batch_size": 256, "image_size": SIDE, "weight_decay": 1e-4}


def archive(path: Path, images: int, classes: int) -> Path:
    """Write a zip of PNG files in folders named after their classes."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as file:
        for number in range(images):
            buffer = io.BytesIO()
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(buffer, "PNG")
            file.writestr(f"{number % classes:04d}/{number:06d}.png", buffer.getvalue())
    return path


def seconds(module: str, run: Path, request: dict[str, object]) -> float:
    """Run a module on a fresh RUN_DIR."""
    run.mkdir()
    (run / "request.json").write_text(json.dumps(request))
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", module, str(run)], check=True)
    return time.perf_counter() - began


def measure(folder: Path, weights: Path, images: int, classes: int) -> tuple[float, float]:
    """Return the seconds of an ingestion and of a head run."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        file = archive(place / "images.zip", images, classes)
        ingest = seconds("core.ingest", place / "ingest", {"archive": str(file)})
        request = {
            "config": {
                "architecture": ARCHITECTURE,
                "strategy": "head",
                "hyperparameters": NUMBERS,
                "early_stopping": None,
            },
            "dataset": str(place / "ingest" / "result"),
            "weights_dir": str(weights),
            "offline": True,
        }
        return ingest, seconds("models.train", place / "run", request)


def table(title: str, sizes: list[int], rows: list[list[tuple[float, float]]]) -> None:
    """Print seconds and what each further one costs."""
    print(f"\n{title:>8} {'ingest':>9} {'each':>9} {'head run':>9} {'each':>9}   (range)")
    before: tuple[int, float, float] | None = None
    for size, runs in zip(sizes, rows, strict=True):
        middle = [statistics.median(values) for values in zip(*runs, strict=True)]
        each = ["", ""]
        if before is not None:
            more = size - before[0]
            each = [f"{1e3 * (middle[n] - before[n + 1]) / more:.2f} ms" for n in (0, 1)]
        whole = [run[1] for run in runs]
        print(
            f"{size:8} {middle[0]:7.1f} s {each[0]:>9} {middle[1]:7.1f} s {each[1]:>9}"
            f"   ({min(whole):.1f} to {max(whole):.1f})"
        )
        before = size, *middle


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", nargs="+", type=int, default=[1000, 4000, 16000])
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    few, middle = asked.classes[0], asked.images[len(asked.images) // 2]
    print(f"{plain.machine()}, n = {asked.repeats}, median")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        state = models.get_model(ARCHITECTURE, weights=None).state_dict()
        save_file(state, folder / f"{ARCHITECTURE}.safetensors")

        def rows(pairs: list[tuple[int, int]]) -> list[list[tuple[float, float]]]:
            return [
                [measure(folder, folder, *pair) for _ in range(asked.repeats)] for pair in pairs
            ]

        table("images", asked.images, rows([(images, few) for images in asked.images]))
        table("classes", asked.classes, rows([(middle, classes) for classes in asked.classes]))


if __name__ == "__main__":
    main()
