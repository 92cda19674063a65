"""Checkpoints that survive a kill at any instant: one safetensors file each, no pickle.

The training state travels as JSON in the file's metadata together with a SHA-256 over state and
tensors, so a checkpoint is whole or it is not there. The last two are kept; when the newer one
does not match its hash, the older one is used.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.system.atomic_files import settle
from core.system.failpoints import hit
from models.networks import tensorfile, weights_file
from models.planning.disk_needs import KEPT_CHECKPOINTS
from topwork.errors import IntegrityError, WeightsMismatch

HEADER_BYTES = 1 << 28  # The state is in it, with the history of every epoch.
Tensors = dict[str, Tensor]
State = dict[str, Any]


def write(path: Path, tensors: Tensors, state: State) -> None:
    """Write one file atomically and durably; `state` must be JSON."""
    text = json.dumps(state, sort_keys=True)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": text, "sha256": _digest(whole, text)}
    part = path.with_name(f".{path.name}.part")
    save_file(whole, part, metadata=metadata)
    settle(part, path)


def read(path: Path) -> tuple[Tensors, State]:
    """Read one file back.

    Raises:
        IntegrityError: The file is damaged.
    """
    try:
        found = tensorfile.read(path, header_bytes=HEADER_BYTES)
    except WeightsMismatch as error:
        raise IntegrityError(f"{path.name} cannot be read: {error.message}") from error
    text = found.metadata.get("state", "")
    if found.metadata.get("sha256") != _digest(found.tensors, text):
        raise IntegrityError(f"{path.name} does not match its hash.")
    return found.tensors, json.loads(text)


def save(folder: Path, step: int, tensors: Tensors, state: State) -> None:
    """Write the checkpoint of one step and drop what it makes superfluous.

    `state["best_file"]` names the file of the best weights, which lives as long as a checkpoint
    refers to it.
    """
    write(folder / f"step-{step:010d}.safetensors", tensors, state)
    hit("checkpoint.before_removal")
    kept = newest_first(folder)[:KEPT_CHECKPOINTS]
    named = {path.name for path in kept} | {_peek(path).get("best_file") for path in kept}
    for path in folder.glob("*.safetensors"):
        if path.name not in named:
            path.unlink()
    hit("checkpoint.after_removal")


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints; sweep the files of a save that was cut."""
    for orphan in folder.glob(".*.part"):
        orphan.unlink()
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def seal(path: Path) -> str | None:
    """Return the SHA-256 that a file claims for itself, which `read` checks; None without one."""
    return _metadata(path).get("sha256")


def _peek(path: Path) -> State:
    """Read the state alone; nothing of a damaged file."""
    state: State = json.loads(_metadata(path).get("state", "{}"))
    return state


def _metadata(path: Path) -> dict[str, str]:
    try:
        return weights_file.metadata(path, header_bytes=HEADER_BYTES)
    except WeightsMismatch:
        return {}


def _digest(tensors: Tensors, state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
