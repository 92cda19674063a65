"""The recipe that the training benches compare with, and the inputs that both sides share.

It is the one of the PyTorch transfer-learning tutorial: an ImageFolder, PIL transforms in a
DataLoader without workers, fp32 in the default layout, SGD with momentum, batches of 32.
"""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

from models.networks import head

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "hymenoptera.zip"
BATCH = 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_SIDE, _RESIZE = 224, 256


def prepare(archive: Path, folder: Path, *architectures: str) -> Path:
    """Extract the archive for the plain side, ingest it for ours; return the folder of weights.

    Below `folder` lie then `plain/train`, `plain/val`, `ingest/result` and `weights`, in it for
    each architecture the weights of TOPWORK_WEIGHTS_DIR, or random ones where there are none.
    """
    if not archive.is_file():
        sys.exit(f"{archive} is not there: name an archive with train/ and val/")
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "plain")  # A benchmark's own data, not a stranger's.
    run = folder / "ingest"
    run.mkdir()
    (run / "request.json").write_text(json.dumps({"archive": str(archive.resolve())}))
    subprocess.run([sys.executable, "-m", "core.ingest", str(run)], check=True)
    weights = folder / "weights"
    weights.mkdir()
    published = Path(os.environ.get("TOPWORK_WEIGHTS_DIR", "nowhere"))
    for name in architectures:
        found, place = published / f"{name}.safetensors", weights / f"{name}.safetensors"
        if found.is_file():
            place.symlink_to(found.resolve())
        else:
            torch.manual_seed(0)
            save_file(models.get_model(name, weights=None).state_dict(), place)
    return weights


@dataclass(frozen=True)
class Plain:
    """The tutorial's network, optimiser and data."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    train: "DataLoader[tuple[Tensor, Tensor]]"
    val: "DataLoader[tuple[Tensor, Tensor]]"

    @classmethod
    def of(
        cls, folder: Path, architecture: str, weights: Path, *, frozen: bool, batch: int = BATCH
    ) -> "Plain":
        """Build it over `train/` and `val/` of the folder; `frozen` trains only the new head."""
        normalise = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        changed = [transforms.RandomResizedCrop(_SIDE), transforms.RandomHorizontalFlip()]
        fixed = [transforms.Resize(_RESIZE), transforms.CenterCrop(_SIDE)]
        train = ImageFolder(folder / "train", transforms.Compose([*changed, *normalise]))
        val = ImageFolder(folder / "val", transforms.Compose([*fixed, *normalise]))
        model = models.get_model(architecture, weights=None)
        model.load_state_dict(load_file(weights))
        model.requires_grad_(requires_grad=not frozen)
        head.replace(model, len(train.classes))
        learning = [value for value in model.parameters() if value.requires_grad]
        return cls(
            model,
            torch.optim.SGD(learning, lr=1e-3, momentum=0.9),
            DataLoader(train, batch, shuffle=True),
            DataLoader(val, batch),
        )

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step of the optimiser."""
        self.optimizer.zero_grad()
        logits, _ = head.logits_of(self.model(images))
        nn.functional.cross_entropy(logits, labels).backward()
        self.optimizer.step()

    def accuracy(self) -> float:
        """Return the share of right answers on the validation images."""
        self.model.eval()
        with torch.no_grad():
            right = sum(int((self.model(x).argmax(1) == y).sum()) for x, y in self.val)
        return right / len(self.val.dataset)  # type: ignore[arg-type]


def fit(plain: Plain, epochs: int) -> float:
    """Train with validation after each epoch; return the best validation accuracy."""
    best = 0.0
    for _ in range(epochs):
        plain.model.train()
        for images, labels in plain.train:
            plain.step(images, labels)
        best = max(best, plain.accuracy())
    return best


def machine() -> str:
    """Return what ran the measurement, for its log entry."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    load = os.getloadavg()[0]
    unit = torch.backends.cpu.get_cpu_capability()
    return (
        f"{name}, {unit}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"load before {load:.1f}"
    )
