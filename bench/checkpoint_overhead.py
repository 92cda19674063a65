"""Share of training time that goes into checkpoints: python bench/checkpoint_overhead.py [-h].

Trains ARCHITECTURE from random weights on staged noise with the trainer itself, in this process,
and times every call of the loop's `save` that writes; the share is their sum over the time of the
whole loop, validation included. The rule is in `models/training/resume.py`: at an epoch's end, and
inside one at most once a minute, never sooner than fifty times the last save.
"""

import argparse
import hashlib
import io
import json
import os
import statistics
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from core.system.machine import cores
from core.system.run_dir import DONE, supervise
from models.train import train
from models.training.loop import Loop

CLASSES = 5


def stage(folder: Path, images: int, side: int) -> Path:
    """Write a staged dataset of noise; a fifth validates."""
    (folder / "shards").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    shard = folder / "shards" / "new.tar"
    with tarfile.open(shard, "w") as tar:
        for number in range(images):
            buffer = io.BytesIO()
            pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(buffer, "JPEG")
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(member, buffer)
            rows.append(
                {
                    "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
                    "path": member.name,
                    "class": str(number % CLASSES),
                    "split": "val" if number % 25 >= 20 else "train",  # noqa: PLR2004 - a fifth.
                    "width": side,
                    "height": side,
                    "length": member.size,
                    "findings": [],
                }
            )
    with tarfile.open(shard) as tar:
        places = [member.offset_data for member in tar.getmembers()]
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    shard.rename(folder / "shards" / f"{digest}.tar")
    lines = [
        json.dumps({**row, "shard": digest, "offset": place})
        for row, place in zip(rows, places, strict=True)
    ]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    summary = {"classes": [str(number) for number in range(CLASSES)], "digest": digest}
    (folder / "dataset.json").write_text(json.dumps(summary))
    return folder


class Watched:
    """The loop's own `run` and `save`, timed."""

    def __init__(self) -> None:
        self.saves: list[float] = []
        self.total = 0.0
        self.bytes = 0
        self.run, self.save = Loop.run, Loop.save

    def timed_save(self, loop: Loop, *, only_if_due: bool = False) -> None:
        """Save, and keep the seconds when a file was written."""
        before, began = loop.checkpoints.saved, time.perf_counter()
        self.save(loop, only_if_due=only_if_due)
        if loop.checkpoints.saved != before:
            self.saves.append(time.perf_counter() - began)
            files = list(loop.fit.checkpoint.rglob("step-*.safetensors"))
            self.bytes = max(path.stat().st_size for path in files)

    def timed_run(self, loop: Loop) -> object:
        """Train, and keep the seconds."""
        began = time.perf_counter()
        progress = self.run(loop)
        self.total += time.perf_counter() - began
        return progress


def main() -> None:
    """Print one line for each repetition and the median share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("-n", type=int, default=3)
    asked = parser.parse_args()
    print(f"{os.cpu_count()} cores, {cores()} used, torch {torch.__version__}")
    shares = []
    for _ in range(asked.n):
        watched = Watched()
        Loop.run = lambda loop, watched=watched: watched.timed_run(loop)
        Loop.save = lambda loop, watched=watched, **due: watched.timed_save(loop, **due)
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            run.mkdir()
            config = {
                "architecture": asked.architecture,
                "weights": "none",
                "strategy": "full",
                "early_stopping": None,
                "hyperparameters": {"epochs": asked.epochs, "optimizer": asked.optimizer},
            }
            data = stage(Path(folder) / "data", asked.images, asked.side)
            request = {"config": config, "dataset": str(data), "weights_dir": folder}
            (run / "request.json").write_text(json.dumps(request))
            assert supervise(train, [str(run)], resumable=True) == DONE
        Loop.run, Loop.save = watched.run, watched.save
        shares.append(sum(watched.saves) / watched.total)
        print(
            f"{asked.architecture}, {asked.epochs} epochs of {asked.images} images:"
            f" {len(watched.saves)} saves of {watched.bytes / 1e6:.0f} MB,"
            f" {statistics.median(watched.saves):.2f} s each,"
            f" {sum(watched.saves):.2f} of {watched.total:.1f} s = {shares[-1]:.2%}"
        )
    print(f"median {statistics.median(shares):.2%} of the training time in saves")


if __name__ == "__main__":
    main()
