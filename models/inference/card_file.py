"""The names of a trained model's files, and its card; needs no torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from core.system.atomic_files import sha256
from models.inference.preprocess import Preprocess
from models.weights import bundle
from topwork.errors import IntegrityError

FORMAT = 1
CARD, WEIGHTS = bundle.CARD, bundle.WEIGHTS
GRAPH = "network.onnx"
"""The network without its weights, which it names as parts of `WEIGHTS`; not in every folder."""
REJECTION = "rejection.safetensors"
"""Known images and scores by which the model abstains; not in every folder."""

Card = dict[str, Any]


def manifest(folder: Path, *names: str) -> dict[str, dict[str, Any]]:
    """Return name -> {sha256, size} of the named files, or of every file in the folder."""
    files = [folder / name for name in names] or sorted(folder.iterdir())
    return {
        path.name: {"sha256": sha256(path), "size": path.stat().st_size}
        for path in files
        if path.is_file()
    }


def read_card(folder: Path, digest: str | None = None) -> Card:
    """Read the card and check the fields that everything else relies on.

    Args:
        folder: The model's.
        digest: The card's SHA-256, where it is known; it binds the weights as well.

    Raises:
        IntegrityError: The card is missing, damaged, or of a format from the future.
    """
    try:
        with (folder / CARD).open("rb") as file:
            data = file.read(bundle.LARGEST_CARD)
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError(f"{CARD} does not match its recorded hash.")
        card = json.loads(data)
        known = card["format"] == FORMAT
        classes, architecture = card["classes"], card["architecture"]
        facts = card["files"][WEIGHTS]
        Preprocess.from_dict(card["preprocess"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"The model's {CARD} cannot be read: {error!r}.") from error
    if not known:
        raise IntegrityError(
            f"The model's card has format {card['format']!r}; this version reads {FORMAT}.",
            hint="Use the version of Topwork that wrote the model, or a newer one.",
        )
    names_fit = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    hash_fits = isinstance(facts, dict) and {"sha256", "size"} <= facts.keys()
    if not (
        names_fit
        and hash_fits
        and isinstance(architecture, str)
        and len(classes) == len(set(classes)) > 0
    ):
        raise IntegrityError(f"The model's {CARD} lacks class names, architecture or hashes.")
    return dict(card)
