"""Accuracy on long images by how they are seen: python bench/elongated.py [ARCHIVE] [--seeds 3].

Each photograph of the archive becomes one of 1000x300: as high as that, at a random place in front
of itself, stretched and blurred. `val/` is only tested on; validation images are drawn. Trained is
a job's own way (`python -m models.train`), once for each `fit` and seed. Weights are those of
TOPWORK_WEIGHTS_DIR; without any the figures mean nothing.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import plain
from core.imaging.decode import decode
from models.evaluation.intervals import wilson

SIZE = (1000, 300)
FITS = ("crop", "pad", "squash", "auto")


def stretched(photograph: Image.Image, seed: int) -> bytes:
    """Return a JPEG of `SIZE` in which the photograph is as high as that, at a random place."""
    wide, high = SIZE
    width = min(wide, round(photograph.width * high / photograph.height))
    behind = photograph.resize(SIZE).filter(ImageFilter.GaussianBlur(30))
    left = int(np.random.default_rng(seed).integers(0, wide - width + 1))
    behind.paste(photograph.resize((width, high)), (left, 0))
    out = io.BytesIO()
    behind.save(out, "JPEG", quality=92)
    return out.getvalue()


def lengthen(archive: Path, target: Path, every: int) -> None:
    """Write the archive of long images, of each `every`-th one; `val` is called `test`."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as long:
        names = sorted(name for name in source.namelist() if name.endswith(".jpg"))
        for number, name in enumerate(names):
            data = source.read(name)
            parts = Path(name).parts[-3:]
            split = "test" if parts[0] == "val" else "train"
            data = data if number % every else stretched(decode(data), number)
            long.writestr("/".join((split, *parts[1:])), data)


def train(folder: Path, asked: argparse.Namespace, fit: str, seed: int) -> dict[str, bool]:
    """Train once; return which test images are right, by path."""
    run = Path(tempfile.mkdtemp(dir=folder))
    config = {"architecture": asked.architecture, "strategy": asked.strategy, "fit": fit}
    request = {
        "config": {**config, "seed": seed},
        "dataset": str(folder / "ingest" / "result"),
        "weights_dir": str(folder / "weights"),
        "cache_dir": str(folder / "cache"),
        "offline": True,
    }
    (run / "request.json").write_text(json.dumps(request))
    subprocess.run([sys.executable, "-m", "models.train", str(run)], check=True)
    lines = (run / "result" / "predictions.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "test"]
    plan = json.loads((run / "result" / "card.json").read_text())["plan"]["fit"]
    print(f"{fit}, seed {seed}: {plan['value']} ({plan['reason']})", file=sys.stderr, flush=True)
    return {row["path"]: row["class"] == row["label"] for row in rows}


def main() -> None:
    """Print the accuracy of each fit, and its difference from `crop`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=plain.SHARED)
    parser.add_argument("--architecture", default="mobilenet_v2")
    parser.add_argument("--strategy", default="head")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="make each so many-th image long")
    asked = parser.parse_args()
    print(plain.machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lengthen(asked.archive, folder / "long.zip", asked.every)
        plain.prepare(folder / "long.zip", folder, asked.architecture)
        seeds = range(1, asked.seeds + 1)
        right = {fit: [train(folder, asked, fit, seed) for seed in seeds] for fit in FITS}
    crop = right["crop"]
    for fit, runs in right.items():
        images = len(runs[0])
        shares = [sum(run.values()) / images for run in runs]
        ends = wilson(round(statistics.mean(shares) * images), images)
        # The same images, so that their own difficulty cancels: by image, over the seeds.
        gains = [
            statistics.mean(run[path] - other[path] for run, other in zip(runs, crop, strict=True))
            for path in runs[0]
        ]
        error = statistics.stdev(gains) / images**0.5
        gain = statistics.mean(gains)
        print(
            f"{fit:7} accuracy {statistics.mean(shares):.4f} ({min(shares):.4f} to"
            f" {max(shares):.4f} over {len(runs)} seeds; 95 % of {images} images:"
            f" {ends['low']:.3f} to {ends['high']:.3f});"
            f" minus crop {gain:+.4f} ({gain - 1.96 * error:+.4f} to {gain + 1.96 * error:+.4f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
