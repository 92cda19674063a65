"""Compare the sharpness of training views and evaluation crops: python bench/views.py [ARCHIVE].

What is compared is the mean absolute Laplacian of the brightness, of all views of a set of images
over that of their evaluation crops. The sources are JPEG files: dead leaves, discs of all sizes
over each other, which look alike at any scale as photographs do (Lee, Mumford, Huang 2001,
doi:10.1023/A:1011109015675), and the photographs of a zip. A ratio that is more than 10 % off ends
the bench with an error.
"""

import argparse
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from core.imaging.decode import decode
from models.data.augment import augment, named
from models.data.canvas import Canvas, pictures
from models.inference.preprocess import Preprocess
from models.planning import catalogue
from models.planning.plan import resolve
from topwork.types.training import TrainConfig

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "hymenoptera.zip"
WIDTHS = (300, 400, 500, 700, 1000, 2000, 4000)
LARGEST = 4000
CLOSE = 0.1
SMALLEST_DISC, LARGEST_DISC = 1 / 2000, 1 / 4  # Radius as a share of the width.


def leaves(seed: int, width: int, discs: int) -> Image.Image:
    """Paint discs whose radii have the density r^-3, as scale invariance asks for; 4:3."""
    rng = np.random.default_rng(seed)
    height = width * 3 // 4
    picture = Image.new("RGB", (width, height), (127, 127, 127))
    draw = ImageDraw.Draw(picture)
    ends = (np.array([SMALLEST_DISC, LARGEST_DISC]) * width) ** -2
    radii = (ends[0] + rng.random(discs) * (ends[1] - ends[0])) ** -0.5
    places = rng.random((discs, 2)) * (width, height)
    colours = rng.integers(0, 256, (discs, 3)).tolist()
    for (x, y), radius, colour in zip(places.tolist(), radii.tolist(), colours, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colour))
    return picture


def jpeg(picture: Image.Image, longest: int) -> bytes:
    """Return a file whose longer side has so many pixels at most."""
    scale = min(1.0, longest / max(picture.size))
    width, height = (round(side * scale) for side in picture.size)
    if scale < 1:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=92)
    return out.getvalue()


def sharpness(pixels: NDArray[np.floating]) -> float:
    """Return the mean absolute Laplacian of the brightness of an image (3, height, width)."""
    grey = pixels.mean(0)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.abs(4 * grey[1:-1, 1:-1] - around).mean())


def ratio(files: Sequence[bytes], architecture: str, augmentation: str, epochs: int) -> float:
    """Return how sharp the views of these files are, as a share of their evaluation crops."""
    sizes = [decode(file).size for file in files]
    # As ingestion notes it, so that the plan is that of a job.
    largest = max(int(np.ceil((width * height) ** 0.5)) for width, height in sizes)
    asked = {"architecture": architecture, "strategy": "full", "augmentation": augmentation}
    counts = {"train": {"one": len(files) - 1, "other": 1}}
    summary = {"classes": ["one", "other"], "counts": counts, "shapes": {"largest": largest}}
    plan = resolve(TrainConfig.model_validate(asked), catalogue.get(architecture), summary)
    assert plan.canvas is not None
    preprocess = Preprocess.for_architecture(architecture)
    change = named(augmentation, plan.image_size)
    canvas = Canvas(plan.canvas, cropped=change.area is not None)
    rows = np.stack([canvas.row(decode(file, shrink_to=canvas.side)) for file in files])
    seen = [
        augment(
            pictures(rows, torch.from_numpy(rows)),
            np.arange(len(files)),
            augmentation=change,
            preprocess=preprocess,
            seed=0,
            epoch=epoch,
        ).numpy()
        for epoch in range(epochs)
    ]
    judged = [sharpness(preprocess.read(file).astype(np.float32)) for file in files]
    return float(np.mean([sharpness(view) for batch in seen for view in batch]) / np.mean(judged))


def photographs(archive: Path, every: int) -> list[Image.Image]:
    """Return one of so many photographs of an archive."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))[::every]
        return [decode(file.read(name)) for name in names]


def main() -> None:
    """Print a row for each set of sources."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=SHARED)
    parser.add_argument("--architecture", default="mobilenet_v2")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--leaves", type=int, default=6)
    asked = parser.parse_args()
    painted = [leaves(seed, LARGEST, 50_000) for seed in range(asked.leaves)]
    sets = [(f"leaves {width} px", painted, width) for width in WIDTHS]
    if asked.archive.is_file():
        found = photographs(asked.archive, 8)
        sets += [(f"photographs {width} px", found, width) for width in (300, 400, 500)]
    names = ("light", "standard", "strong")
    print(f"{asked.architecture}, {asked.epochs} views of each; sharpness of views over crops")
    print(f"{'':22}" + "".join(f"{name:>10}" for name in names))
    worst = 0.0
    for label, pictures_, width in sets:
        files = [jpeg(picture, width) for picture in pictures_]
        found_ = [ratio(files, asked.architecture, name, asked.epochs) for name in names]
        print(f"{label:22}" + "".join(f"{one:10.3f}" for one in found_), flush=True)
        worst = max([worst, *(abs(one - 1) for one in found_)])
    print(f"farthest from 1: {worst:.3f}")
    if worst > CLOSE:
        sys.exit(f"More than {CLOSE:.0%} off.")


if __name__ == "__main__":
    main()
