"""A trained model as a folder: `weights.safetensors` and `card.json`, readable without Topwork.

The card names the SHA-256 of the weights, and whoever keeps the folder keeps the card's own, so
no byte is used that nobody vouches for. `docs/artefact.md` describes every field and has a loader
that needs only torch, torchvision and safetensors.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import nn

from core.system.atomic_files import sync, write_atomically
from models.inference.card_file import (
    CARD,
    FORMAT,
    GRAPH,
    REJECTION,
    WEIGHTS,
    Card,
    manifest,
    read_card,
)
from models.inference.rejection import Rejection
from models.networks import head, tensorfile, zoo
from models.networks.head import Heads
from models.networks.loading import compare
from models.planning import catalogue
from topwork.errors import IntegrityError, WeightsMismatch

__all__ = [
    "CARD",
    "FORMAT",
    "GRAPH",
    "REJECTION",
    "WEIGHTS",
    "Card",
    "check_finite",
    "heads",
    "load",
    "manifest",
    "read_card",
    "text_of",
    "write",
]


def write(
    folder: Path,
    model: nn.Module,
    card: Card,
    more: Callable[[], Card] = dict,
    rejection: Rejection | None = None,
) -> Card:
    """Write the model's values and its card durably into an existing folder; return the card.

    `card` brings at least `architecture`, `classes` and `preprocess`; the format, the builder's
    arguments and the hashes of the files are filled in here. The card comes last: a folder with a
    card is complete. `more` is called when the weights are written, may write the graph beside
    them, and returns what else the card says. `rejection` is by what the model abstains.

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
    if rejection is not None:
        known = folder / f".{REJECTION}.part"
        save_arrays(rejection.arrays(), known)
        sync(known)
        known.rename(folder / REJECTION)
    full = {**card, **more(), "format": FORMAT, "arguments": arguments}
    full["files"] = manifest(folder, WEIGHTS, GRAPH, REJECTION)
    write_atomically(folder / CARD, text_of(full))
    return full


def text_of(card: Card) -> bytes:
    """Return a card as its file has it."""
    return json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False).encode()


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


def heads(model: nn.Module, card: Card) -> Heads:
    """Return the heads that a card names; those of the architecture, where it names none.

    Auxiliary ones that the weights came without are left out.

    Raises:
        IntegrityError: It names a layer that has not one output for each of its classes.
    """
    known = catalogue.get(card["architecture"])
    try:
        layers = set(head.find(model, len(card["classes"])).all)
        found = (
            Heads(card["head"]["layers"][-1], tuple(card["head"]["auxiliary"]))
            if "head" in card
            else Heads(known.head, tuple(one.layer for one in known.auxiliary))
        )
        found = head.present(model, found)
        strange = set(found.all) - layers
    except (KeyError, IndexError, TypeError, WeightsMismatch) as error:
        raise IntegrityError(f"The model's card does not name its head: {error!r}.") from error
    if strange:
        raise IntegrityError(
            f"The model's card names {min(map(str, strange))!r}, which is not its head."
        )
    return found


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
