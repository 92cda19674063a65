"""The file of known images by which a trained model abstains; needs no torch."""

from pathlib import Path

import numpy as np

from models.inference.card_file import REJECTION, Card
from models.inference.rejection import Rejection
from models.networks import weights_file
from models.planning.rejection import NO_REFERENCES
from topwork.errors import IntegrityError, WeightsMismatch

_KINDS: dict[str, dict[str, type[np.generic]]] = {
    "references": {"F32": np.float32},
    "similarities": {"F64": np.float64},
    "confidences": {"F64": np.float64},
}


def read(folder: Path, card: Card) -> Rejection | str:
    """Return by what a model abstains, or why it cannot: a bundle comes without its known images.

    Raises:
        IntegrityError: The file is damaged, or does not fit the card.
    """
    stated = card.get("rejection") or {"reason": NO_REFERENCES}
    try:
        if stated.get("reason") is not None:
            return str(stated["reason"])
        if REJECTION not in card["files"] or not (folder / REJECTION).exists():
            return NO_REFERENCES
        found = weights_file.read(folder / REJECTION, card["files"][REJECTION]["sha256"]).values
        neighbours = int(stated["neighbours"])
        arrays = {name: found[name].array(kinds) for name, kinds in _KINDS.items()}
    except (AttributeError, KeyError, TypeError, ValueError, WeightsMismatch) as error:
        raise IntegrityError(f"The model's {REJECTION} does not fit its card: {error}.") from error
    return Rejection(neighbours=neighbours, **arrays)
