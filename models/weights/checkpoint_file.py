"""Read the tensors out of checkpoints as people have them; judged by content, and no code is run.

Called by `models.weights.pretrained` in the process that imports weights.
"""

import argparse
import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from models.networks import tensorfile
from topwork.errors import WeightsMismatch

# Under which names training scripts keep the network beside the optimiser and their settings.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
MOST_WRAPPERS = 3
HEAD_BYTES = 512
FOREIGN = (
    (re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE), "a web page",
     "The download may have needed a login. Look at the file in a browser."),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer, and not the file",
     "`git lfs pull` brings the file."),
    (re.compile(rb"\x89HDF\r\n\x1a\n"), "an HDF5 file, as Keras writes them", None),
    (re.compile(rb"\x08[\x01-\x10]\x12[\x02-\x40][\w.-]"), "an ONNX model", None),
    (re.compile(rb"GGUF|GGML"), "a GGUF model", None),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ"), "a compressed file", "Unpack it first."),
    (re.compile(rb"\x93NUMPY"), "a NumPy array", None),
)  # fmt: skip
SAVE = "Save the network's tensors alone: torch.save(model.state_dict(), FILE), or as safetensors."
ZIP = b"PK\x03\x04"
UNSAFE_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read(file: Path) -> tuple[Mapping[str, Tensor], str]:
    """Return the tensors of a checkpoint by name, and the file's SHA-256.

    A safetensors file, or a pickle of torch with a state alone, in a wrapper of a training script
    or with the `argparse.Namespace` that some keep beside it.

    Raises:
        WeightsMismatch: It is something else, and is named where that can be told.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
        if head[8:9] == b"{":
            whole = tensorfile.read(file)
            return whole.tensors, whole.sha256
        data = file.read_bytes()
    except OSError as error:
        raise WeightsMismatch(f"{file.name} could not be read: {error.strerror}.") from error
    _refuse_foreign(file.name, data)
    return _unwrapped(file.name, _unpickled(file.name, data)), hashlib.sha256(data).hexdigest()


def without_prefix(state: Mapping[str, Tensor], expected: Collection[str]) -> Mapping[str, Tensor]:
    """Return the tensors under names without what wrappers put before each of them.

    `torch.nn.DataParallel` puts `module.`, `torch.compile` `_orig_mod.`, a class of one's own
    the name of its field. `expected` are the names of the network's own tensors.
    """
    while len(first := {name.partition(".")[0] for name in state}) == 1:
        prefix = f"{first.pop()}."
        own = any(name.startswith(prefix) for name in expected)
        if own or not all(name.startswith(prefix) for name in state):
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _refuse_foreign(name: str, data: bytes) -> None:
    for start, kind, hint in FOREIGN:
        if start.match(data[:HEAD_BYTES]):
            raise WeightsMismatch(f"{name} is {kind}.", hint=hint or SAVE)
    if not data.startswith(ZIP):
        return
    try:
        members = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, ValueError):
        raise WeightsMismatch(f"{name} is damaged or was cut off.") from None
    if any(member.endswith("/constants.pkl") for member in members):
        raise WeightsMismatch(f"{name} is a TorchScript program.", hint=SAVE)
    if any(member.endswith(".npy") for member in members):
        raise WeightsMismatch(f"{name} is a NumPy archive.", hint=SAVE)
    if not any(member.endswith("data.pkl") for member in members):
        hint = "Unpack it, and name the checkpoint that is in it."
        raise WeightsMismatch(f"{name} is a zip archive without a checkpoint.", hint=hint)


def _unpickled(name: str, data: bytes) -> Any:
    try:
        with safe_globals([argparse.Namespace]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = UNSAFE_GLOBAL.search(str(error))
        if found is None:
            raise WeightsMismatch(f"{name} is no checkpoint that can be read.", hint=SAVE) from None
        words = f"{name} holds objects of {found[1]} beside tensors. Such are not loaded, as that"
        raise WeightsMismatch(f"{words} can run code.", hint=SAVE) from None
    except (RuntimeError, EOFError, ValueError, TypeError, AttributeError):
        raise WeightsMismatch(f"{name} is damaged or was cut off.") from None


def _unwrapped(name: str, loaded: Any) -> Mapping[str, Tensor]:
    for _ in range(MOST_WRAPPERS):
        if isinstance(loaded, dict) and not _is_state(loaded):
            inner = (loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), dict))
            loaded = next(inner, loaded)
    if not isinstance(loaded, dict) or not _is_state(loaded):
        raise WeightsMismatch(f"{name} is not a mapping of names to tensors.", hint=SAVE)
    return loaded


def _is_state(loaded: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and isinstance(it, Tensor) for key, it in loaded.items())
