"""Trained models, as the trainer would have left them in storage."""

from pathlib import Path
from typing import Any

from core.store.object_store import Storage
from models.inference import artefact
from tests.models.publishing import network_of, publish, write_lenet

CLASSES = ["ant", "bee", "cicada"]


def store_model(storage: Storage, folder: Path, *, seed: int = 1, **changes: Any) -> dict[str, Any]:
    """Put a LeNet with random weights into storage; return how an order names it."""
    write_lenet(folder, CLASSES, seed=seed, **changes)
    return put_model(storage, folder, f"models/job{seed}/1")


def store_served(storage: Storage, folder: Path) -> dict[str, Any]:
    """Put a LeNet with its graph into storage; return how an order names it."""
    folder.mkdir(parents=True)
    publish(folder, network_of("lenet", CLASSES))
    return put_model(storage, folder, "models/served/1")


def put_model(storage: Storage, folder: Path, prefix: str) -> dict[str, Any]:
    """Put a trained model's folder into storage; return how an order names it."""
    files = artefact.manifest(folder)
    for name in files:
        storage.put_file(f"{prefix}/{name}", folder / name)
    digest = files[artefact.WEIGHTS]["sha256"]
    return {"kind": "artefact", "prefix": prefix, "digest": digest, "files": files}
