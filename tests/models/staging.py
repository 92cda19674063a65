"""Make staged datasets and run directories for trainer tests, independently of ingest."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from core.ingest.manifest import Line, shapes
from core.system.run_dir import DONE

ROOT = Path(__file__).resolve().parents[2]

Labelled = tuple[str, str, bytes]  # split, class, bytes of an image file


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Return a PNG file of uint8 (h, w, 3) or (h, w)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def stage(
    folder: Path,
    images: Iterable[Labelled],
    classes: list[str] | None = None,
    drawn: Sequence[str] = (),
) -> Path:
    """Write `dataset.json`, `manifest.jsonl` and one shard; these splits were `drawn`."""
    (folder / "shards").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    shard = folder / "shards" / "new.tar"
    with tarfile.open(shard, "w") as tar:
        for number, (split, name, data) in enumerate(images):
            member = tarfile.TarInfo(f"{number:06d}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
            rows.append(
                {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "path": f"{split}/{name}/{number:06d}.png",
                    "class": name,
                    "split": split,
                    "width": width,
                    "height": height,
                    "length": len(data),
                    "findings": [],
                }
            )
    with tarfile.open(shard) as tar:
        offsets = [member.offset_data for member in tar.getmembers()]
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()
    shard.rename(folder / "shards" / f"{digest}.tar")
    lines = [
        json.dumps({**row, "shard": digest, "offset": offset})
        for row, offset in zip(rows, offsets, strict=True)
    ]
    manifest = ("\n".join(lines) + "\n").encode()
    (folder / "manifest.jsonl").write_bytes(manifest)
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        split_counts = counts.setdefault(row["split"], {})
        split_counts[row["class"]] = split_counts.get(row["class"], 0) + 1
    summary = {
        "classes": classes or sorted({row["class"] for row in rows}),
        "counts": counts,
        "drawn": list(drawn),
        "shapes": shapes(cast("list[Line]", rows)),
        "images": len(rows),
        "digest": hashlib.sha256(manifest).hexdigest(),
    }
    (folder / "dataset.json").write_text(json.dumps(summary))
    return folder


def vouch(folder: Path, manifest: str) -> None:
    """Write a manifest, and let the dataset vouch for it."""
    (folder / "manifest.jsonl").write_text(manifest)
    summary = json.loads((folder / "dataset.json").read_text())
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps(summary | {"digest": digest}))


def stripes(split: str, name: str, seed: int) -> Labelled:
    """A 32 px image of noisy stripes whose direction is the class."""
    rng = np.random.default_rng([seed, *split.encode()])
    wave = np.tile(127 + 90 * np.sin(np.arange(32) * 0.8 + rng.uniform(0, 6)), (32, 1))
    pixels = (wave if name == "across" else wave.T)[:, :, None] + rng.normal(0, 30, (32, 32, 3))
    return split, name, png(pixels.clip(0, 255).astype(np.uint8))


def striped(folder: Path, drawn: Sequence[str] = (), **sizes: int) -> Path:
    """Stage stripes in both directions: so many of each in a split."""
    images = [
        stripes(split, name, number)
        for split, size in sizes.items()
        for name in ("across", "down")
        for number in range(size)
    ]
    return stage(folder, images, drawn=drawn)


def request(folder: Path, dataset: Path, weights_dir: Path | None = None, **config: Any) -> Path:
    """Write a RUN_DIR with its `request.json`."""
    folder.mkdir(parents=True)
    body = {
        "job": "job_test",
        "name": "test",
        "config": config,
        "dataset": str(dataset),
        "weights_dir": str(weights_dir or folder / "weights"),
        "offline": True,
    }
    (folder / "request.json").write_text(json.dumps(body))
    return folder


def start(run_dir: Path, **environment: str) -> "subprocess.Popen[bytes]":
    """Start the trainer as the supervisor does, its output in `log.txt`."""
    with (run_dir / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "models.train", str(run_dir)],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, **environment},
        )


def events(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """Return the complete events of a kind so far."""
    path = run_dir / "events.jsonl"
    text = path.read_bytes() if path.exists() else b""
    rows = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
    return [row for row in rows if row["kind"] == kind]


def train_doubtful(folder: Path) -> Path:
    """Stage `data` and train `run`: LeNet gets sure of stripes, a fifth of 60 labels disagrees."""
    other = {"across": "down", "down": "across"}
    images = [stripes("train", name, number) for name in other for number in range(24)]
    for number in range(60):
        split, shown, data = stripes("val", ("across", "down")[number % 2], number)
        images.append((split, shown if number % 5 else other[shown], data))
    data_dir = stage(folder / "data", images)
    numbers = {"epochs": 8, "batch_size": 8}
    run_dir = request(folder / "run", data_dir, architecture="lenet", hyperparameters=numbers)
    # A process of its own, as training sets torch's switches for the process it is in.
    assert start(run_dir).wait(120) == DONE, (run_dir / "log.txt").read_text()
    return folder
