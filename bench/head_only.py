"""Compare a head-only run with the plain recipe: python bench/head_only.py [ARCHIVE.zip].

The plain recipe is the one of the PyTorch transfer-learning tutorial with a frozen trunk: an
ImageFolder, PIL transforms in a DataLoader without workers, fp32, SGD on the last layer, batch 32,
10 epochs, validation after each. Topwork's side is the whole of `python -m models.train` on the
ingested archive, interpreter start and imports included; the plain side is timed inside this
process, after its imports. Both start from the same weights: those of TOPWORK_WEIGHTS_DIR, or
random ones where there are none (then only the times mean something).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

from models.networks import head

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "hymenoptera.zip"
EPOCHS, BATCH = 10, 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def prepare(archive: Path, folder: Path, architecture: str) -> Path:
    """Extract the archive for the plain side, ingest it for ours, and bring the same weights."""
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "plain")  # A benchmark's own data, not a stranger's.
    run = folder / "ingest"
    run.mkdir()
    (run / "request.json").write_text(json.dumps({"archive": str(archive.resolve())}))
    subprocess.run([sys.executable, "-m", "core.ingest", str(run)], check=True)
    weights = folder / "weights"
    weights.mkdir()
    found = Path(os.environ.get("TOPWORK_WEIGHTS_DIR", "nowhere")) / f"{architecture}.safetensors"
    if found.is_file():
        (weights / found.name).symlink_to(found.resolve())
    else:
        torch.manual_seed(0)
        save_file(models.get_model(architecture).state_dict(), weights / found.name)
    return weights / found.name


def plain(folder: Path, architecture: str, weights: Path) -> tuple[float, float]:
    """Run the tutorial's recipe; return seconds and the best validation accuracy."""
    started = time.perf_counter()
    normalise = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    changed = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *normalise]
    fixed = [transforms.Resize(256), transforms.CenterCrop(224), *normalise]
    train = ImageFolder(folder / "train", transforms.Compose(changed))
    val = ImageFolder(folder / "val", transforms.Compose(fixed))
    model = models.get_model(architecture)
    model.load_state_dict(load_file(weights))
    model.requires_grad_(requires_grad=False)
    found = head.find(model)
    head.replace(model, len(train.classes))
    rate = torch.optim.SGD(model.get_submodule(found.main).parameters(), lr=1e-3, momentum=0.9)
    loss_of, best = nn.CrossEntropyLoss(), 0.0
    for _ in range(EPOCHS):
        model.train()
        for images, labels in DataLoader(train, BATCH, shuffle=True):
            rate.zero_grad()
            loss_of(model(images), labels).backward()
            rate.step()
        model.eval()
        with torch.no_grad():
            right = [(model(x).argmax(1) == y).sum().item() for x, y in DataLoader(val, BATCH)]
        best = max(best, sum(right) / len(val))
    return time.perf_counter() - started, best


def ours(folder: Path, architecture: str, number: int) -> tuple[float, float]:
    """Run the trainer as a process; return seconds and the validation accuracy."""
    run = folder / f"run{number}"
    run.mkdir()
    request = {
        "config": {"architecture": architecture, "strategy": "head"},
        "dataset": str(folder / "ingest" / "result"),
        "weights_dir": str(folder / "weights"),
        "offline": True,
    }
    (run / "request.json").write_text(json.dumps(request))
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "models.train", str(run)], check=True)
    seconds = time.perf_counter() - started
    scores = json.loads((run / "result" / "evaluation.json").read_text())
    return seconds, scores["val"]["accuracy"]


def main() -> None:
    """Alternate the two sides and print medians and spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path, default=SHARED)
    parser.add_argument("--architecture", default="mobilenet_v2")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    archive, architecture, repeats = asked.archive, asked.architecture, asked.repeats
    if not archive.is_file():
        sys.exit(f"{archive} is not there: name an archive with train/ and val/")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = prepare(archive, folder, architecture)
        rows = [
            (*plain(folder / "plain", architecture, weights), *ours(folder, architecture, number))
            for number in range(repeats)
        ]
    print(f"{archive.name}, {architecture}, {torch.get_num_threads()} threads, n = {repeats}")
    for side, column in (("plain recipe", 0), ("topwork", 2)):
        seconds = [row[column] for row in rows]
        best = statistics.median(row[column + 1] for row in rows)
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        print(f"{side:13} {statistics.median(seconds):7.1f} s ({spread})  accuracy {best:.3f}")
    ratios = [row[0] / row[2] for row in rows]
    print(f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
