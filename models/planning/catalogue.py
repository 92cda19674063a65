"""Facts about every architecture, readable without torch.

`catalogue.json` is written from the networks themselves by
`python -P -m models.networks.facts`; a test measures samples again, so the two cannot drift apart.
"""

import difflib
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from topwork.errors import ArchitectureUnknown

FOLDER = Path(__file__).parent
# Bytes of a safetensors header, which names every tensor; the largest network here needs 0.3 MB.
HEADER_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Weights:
    """Published ImageNet weights and what to expect of them."""

    preset: str
    file: str
    url: str
    hash_prefix: str  # First hexadecimal digits of the file's SHA-256; part of its name.
    megabytes: float  # 1 MB = 2**20 bytes, as the publisher counts.
    top1: float  # Percent on the ImageNet validation images, at `input_size`.
    top5: float
    recipe: str
    license: str | None  # Address of a licence that differs from the code's.


@dataclass(frozen=True, slots=True)
class Auxiliary:
    """A second classifier inside the network that only training uses."""

    layer: str
    module: str  # Child of the network that goes when the auxiliary head is dropped.
    weight: float  # Factor of its loss in the paper.


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network: where it comes from, what goes in, what can be replaced."""

    name: str
    family: str
    title: str  # Of the paper.
    paper: str
    own: bool  # Written here from the paper; the others are torchvision's.
    parameters: int  # For 1000 classes, without auxiliary heads.
    gigaops: float  # Multiply-adds of one image of `input_size`, in 10**9.
    input_size: int  # Side of the square crop in pixels.
    resize: int  # Short side before the crop.
    min_size: int  # Smallest side that works in training too.
    fixed_size: bool  # Whether `input_size` is the only side that works.
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str  # "bilinear" or "bicubic".
    head: str  # Name of the layer that gives the logits.
    feature_shape: tuple[int, ...]  # Of one image where it enters that layer.
    auxiliary: tuple[Auxiliary, ...]
    arguments: dict[str, Any]  # What the builder needs besides `num_classes`.
    weights: Weights | None  # None: nobody has published any.


@cache
def _entries() -> dict[str, Architecture]:
    rows = json.loads((FOLDER / "catalogue.json").read_text(encoding="utf-8"))
    return {row["name"]: _architecture(row) for row in rows}


def _architecture(row: dict[str, Any]) -> Architecture:
    changed = {name: tuple(row[name]) for name in ("mean", "std", "feature_shape")}
    changed["auxiliary"] = tuple(Auxiliary(**entry) for entry in row["auxiliary"])
    weights = row["weights"] and Weights(**row["weights"])
    return Architecture(**{**row, **changed, "weights": weights})


def names() -> tuple[str, ...]:
    """Return the names of all architectures in alphabetical order."""
    return tuple(_entries())


def canonical(name: str) -> str:
    """Return the architecture's own name for one of its spellings, `ResNet-18`; else the same."""
    spelled = re.sub(r"[- ./]", "_", name.lower())
    return spelled if spelled in _entries() else _spellings().get(spelled.replace("_", ""), name)


@cache
def _spellings() -> dict[str, str]:
    """Return plain spelling -> name, but for those that two networks share (1.6 and 16 GF)."""
    plain = {name: name.replace("_", "") for name in _entries()}
    shared = Counter(plain.values())
    return {spelled: name for name, spelled in plain.items() if shared[spelled] == 1}


def get(name: str) -> Architecture:
    """Return the facts of one architecture; raises ArchitectureUnknown with similar names."""
    found = _entries().get(name)
    if found is None:
        near = difflib.get_close_matches(name.lower(), _entries(), n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "GET /architectures lists all."
        raise ArchitectureUnknown(
            f"There is no architecture named '{name[:80]}'.", param="architecture", hint=hint
        )
    return found


@cache
def imagenet() -> tuple[tuple[str, str], ...]:
    """Return (WordNet id, label) of the 1000 ImageNet classes in output order."""
    rows = json.loads((FOLDER / "imagenet.json").read_text(encoding="utf-8"))
    return tuple((wordnet, label) for wordnet, label in rows)
