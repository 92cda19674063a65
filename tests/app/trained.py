"""Trained models, as the trainer would have left them in storage."""

from pathlib import Path
from typing import Any

import torch

from core.store.object_store import Storage
from models.inference import artefact
from models.inference.preprocess import Preprocess
from models.networks import zoo


def store_model(storage: Storage, folder: Path, *, seed: int = 1, **changes: Any) -> dict[str, Any]:
    """Put a LeNet with random weights into storage; return how an order names it."""
    torch.manual_seed(seed)
    classes = ["ant", "bee", "cicada"]
    card = {
        "architecture": "lenet",
        "classes": classes,
        "preprocess": Preprocess.for_architecture("lenet").to_dict(),
        **changes,
    }
    folder.mkdir(parents=True)
    artefact.write(folder, zoo.build("lenet", len(classes)), card)
    return put_model(storage, folder, f"models/job{seed}/1")


def put_model(storage: Storage, folder: Path, prefix: str) -> dict[str, Any]:
    """Put a trained model's folder into storage; return how an order names it."""
    files = artefact.manifest(folder)
    for name in files:
        storage.put_file(f"{prefix}/{name}", folder / name)
    digest = files[artefact.WEIGHTS]["sha256"]
    return {"kind": "artefact", "prefix": prefix, "digest": digest, "files": files}
