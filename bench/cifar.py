"""Train on CIFAR-10 from scratch: python bench/cifar.py [lenet|nin] [--minutes N] [--plain].

The archive (50 000 / 10 000 images) is ingested once, with 2 000 training images held out to choose
the epoch; the test images are looked at once, at the end. Topwork chooses everything itself but the
precision and the limit; the minutes are the wall clock of `python -m models.train`, interpreter
start, decoding and evaluation included.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from core.system.machine import cores

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10.zip"
GOALS = {"lenet": (0.70, 10.0), "nin": (0.80, 120.0)}
ENDING = 0.5  # Minutes for what comes after training: evaluation and the artefact.
CONFIGS: dict[str, dict[str, Any]] = {"lenet": {}, "nin": {"precision": "bf16"}}


def ingest(archive: Path, folder: Path) -> Path:
    """Read the archive unless an earlier run in this folder has."""
    run = folder / "ingest"
    if not (run / "result").is_dir():
        run.mkdir(parents=True, exist_ok=True)
        request = {"archive": str(archive.resolve()), "split": {"val": 0.04, "seed": 42}}
        (run / "request.json").write_text(json.dumps(request))
        subprocess.run([sys.executable, "-m", "core.ingest", str(run)], check=True)
    return run / "result"


def train(dataset: Path, run: Path, config: dict[str, Any]) -> float:
    """Run the trainer, going on where an interrupted one was; return its minutes."""
    run.mkdir(parents=True, exist_ok=True)
    body = {"config": config, "dataset": str(dataset), "weights_dir": str(run), "offline": True}
    (run / "request.json").write_text(json.dumps(body))
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "models.train", str(run)], check=True)
    return (time.monotonic() - started) / 60


def report(run: Path, minutes: float) -> None:
    """Print what came out and what was chosen."""
    result = run / "result"
    scores = json.loads((result / "evaluation.json").read_text())
    history = json.loads((result / "history.json").read_text())
    card = json.loads((result / "card.json").read_text())
    plan = {name: entry["value"] for name, entry in card["plan"].items()}
    architecture = card["architecture"]
    goal, limit = GOALS[architecture]
    shown = ("epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "augmentation")
    print(
        f"CIFAR-10, {architecture}, {cores()} cores of {platform.processor() or platform.machine()}"
    )
    print(", ".join(f"{name} {plan[name]}" for name in shown))
    best, epochs = history["best"], history["epochs"]
    print(f"{len(epochs)} epochs, best {best['epoch']}: val {best['val_accuracy']:.4f}")
    print(f"test accuracy {scores['test']['accuracy']:.4f} (goal {goal:.2f})")
    print(f"{minutes:.1f} minutes (goal {limit:g})")


def main() -> None:
    """Ingest, train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architecture", nargs="?", choices=sorted(GOALS), default="lenet")
    parser.add_argument("--minutes", type=float, help="default: the goal's")
    parser.add_argument("--archive", type=Path, default=SHARED)
    parser.add_argument("--folder", type=Path, help="kept, so that a second start goes on")
    parser.add_argument("--config", type=json.loads, default={}, help="JSON, over the automatic")
    asked = parser.parse_args()
    if not asked.archive.is_file():
        sys.exit(f"{asked.archive} is not there: name an archive of CIFAR-10")
    minutes = asked.minutes or GOALS[asked.architecture][1]
    config = {
        "architecture": asked.architecture,
        "limits": {"max_minutes": max(0.1, minutes - ENDING)},
        **CONFIGS[asked.architecture],
        **asked.config,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        dataset = ingest(asked.archive, folder)
        run = folder / asked.architecture
        report(run, train(dataset, run, config))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    main()
