"""A trained model as a folder: `weights.safetensors` and `card.json`, readable without Topwork.

The card names the SHA-256 of the weights, and whoever keeps the folder keeps the card's own, so
no byte is used that nobody vouches for. `docs/artefact.md` describes every field and has a loader
that needs only torch, torchvision and safetensors.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from core.system.atomic_files import sha256, sync, write_atomically
from models.inference.preprocess import Preprocess
from models.networks import tensorfile, zoo
from models.networks.loading import compare
from models.planning import catalogue
from models.weights import bundle
from topwork.errors import IntegrityError, WeightsMismatch

FORMAT = 1
CARD, WEIGHTS = bundle.CARD, bundle.WEIGHTS

Card = dict[str, Any]


def write(folder: Path, model: nn.Module, card: Card) -> Card:
    """Write the model's values and its card durably into an existing folder; return the card.

    `card` brings at least `architecture`, `classes` and `preprocess`; the format, the builder's
    arguments and the hash of the weights are filled in here. The card comes last: a folder with a
    card is complete.

    Raises:
        WeightsMismatch: The model is not the card's architecture with the card's classes.
    """
    values = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    whole = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in values.items()
    }
    arguments = _arguments(card["architecture"], whole)
    wanted = zoo.shell(
        card["architecture"],
        len(card["classes"]),
        auxiliary=arguments.get("aux_logits", False),
    )
    compare(wanted.state_dict(), whole)
    part = folder / f".{WEIGHTS}.part"
    save_file(whole, part, metadata={"format": "pt"})
    sync(part)
    part.rename(folder / WEIGHTS)
    full = {**card, "format": FORMAT, "arguments": arguments, "files": manifest(folder, WEIGHTS)}
    write_atomically(folder / CARD, text_of(full))
    return full


def text_of(card: Card) -> bytes:
    """Return a card as its file has it."""
    return json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False).encode()


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


def load(
    folder: Path, *, card_digest: str | None = None, auxiliary: bool = False
) -> tuple[nn.Module, Card]:
    """Return the verified model in eval mode on the CPU, and its card.

    Both are made of the bytes that were hashed, in memory of their own: whatever becomes of the
    files afterwards, the model stays what it is. Auxiliary heads, which only training uses, come
    where they are asked for and stored.

    Raises:
        IntegrityError: A file is damaged or does not fit the card, or a value is not finite.
        ArchitectureUnknown: The card names a network that this version does not have.
    """
    card = read_card(folder, card_digest)
    catalogue.get(card["architecture"])
    try:
        state = tensorfile.read(folder / WEIGHTS, card["files"][WEIGHTS]["sha256"]).tensors
        model = zoo.build(
            card["architecture"], len(card["classes"]), pretrained_state=state, auxiliary=auxiliary
        )
    except WeightsMismatch as error:
        raise IntegrityError(f"{WEIGHTS} does not fit the card: {error.message}") from error
    check_finite(model)
    return model.eval(), card


def check_finite(model: nn.Module) -> None:
    """Refuse NaN and infinity, which would silently spoil every answer.

    Raises:
        IntegrityError: A value is not finite.
    """
    with torch.inference_mode():
        for name, tensor in model.state_dict().items():
            # A sum reads the values once and is finite exactly when all are, short of overflow.
            if tensor.is_floating_point() and not tensor.sum().isfinite():
                raise IntegrityError(f"The weights hold values that are not finite, in '{name}'.")


def _arguments(architecture: str, state: dict[str, Any]) -> dict[str, Any]:
    """Return what torchvision's builder needs besides the number of classes."""
    facts = catalogue.get(architecture)
    if not facts.auxiliary:
        return dict(facts.arguments)
    present = any(name.startswith(f"{facts.auxiliary[0].module}.") for name in state)
    return {**facts.arguments, "aux_logits": present, "init_weights": False}
