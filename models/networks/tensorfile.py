"""Safetensors files as tensors; `weights_file` reads them and hashes what it reads."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.networks import weights_file
from models.networks.weights_file import Values
from models.planning.catalogue import HEADER_LIMIT

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class TensorFile:
    """What one file holds.

    Args:
        tensors: By name, each in memory of its own.
        metadata: What its writer noted.
        sha256: Of the whole file as it was read.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str


def read(path: Path, sha256: str | None = None, *, header_bytes: int = HEADER_LIMIT) -> TensorFile:
    """Read a file; arguments and errors as of `weights_file.read`."""
    found = weights_file.read(path, sha256, header_bytes=header_bytes)
    tensors = {name: _tensor(values) for name, values in found.values.items()}
    return TensorFile(tensors, found.metadata, found.sha256)


def _tensor(values: Values) -> Tensor:
    raw = torch.from_numpy(values.data)
    # Only 0 and 1 are values of a bool.
    typed = raw.ne(0) if values.dtype == "BOOL" else raw.view(DTYPES[values.dtype])
    return typed.reshape(values.shape)
