"""Whatever a model comes as, for `topwork models import`: made into the bundle that is sent."""

import contextlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from core.system import json_child
from core.system.child import python
from core.system.optional_packages import require_torch
from models.weights import bundle
from topwork.errors import BundleInvalid, InvalidField, WeightsMismatch


@contextlib.contextmanager
def bundled(source: Path, architecture: str | None, classes: str | None) -> Iterator[Path]:
    """Yield the bundle of a model: a file as it is, or one that is made for now.

    Args:
        source: A bundle, the folder of an artefact, or another program's checkpoint.
        architecture: Network of a checkpoint.
        classes: Its classes: a file with one a line, or the names with commas between them.

    Raises:
        BundleInvalid: The folder holds no artefact.
        InvalidField: A checkpoint needs its architecture and its classes, and nothing else does.
        WeightsMismatch: The checkpoint cannot be read, or is not of that network.
    """
    told = architecture is not None or classes is not None
    if told and (source.is_dir() or _is_bundle(source)):
        raise InvalidField(f"{source} says itself what it is; only a checkpoint needs that told.")
    if _is_bundle(source):
        yield source
        return
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / f"{source.resolve().name}.zip"
        if source.is_dir():
            _pack(source, target)
        else:
            _convert(source, architecture, classes, target)
        yield target


def _is_bundle(source: Path) -> bool:
    if not zipfile.is_zipfile(source):  # Checkpoints are zip files as well.
        return False
    with zipfile.ZipFile(source) as archive:
        return bundle.CARD in archive.namelist()


def _pack(folder: Path, target: Path) -> None:
    card, weights = folder / bundle.CARD, folder / bundle.WEIGHTS
    if not (card.is_file() and weights.is_file()):
        raise BundleInvalid(f"{folder} lacks {bundle.CARD} or {bundle.WEIGHTS}")
    bundle.pack(target, card.read_bytes(), weights)


def _convert(file: Path, architecture: str | None, classes: str | None, target: Path) -> None:
    """Read a checkpoint in a process of its own, which needs torch."""
    if architecture is None or classes is None:
        hint = "Name its --architecture, and its --classes in the order of its outputs."
        raise InvalidField(f"{file} is no bundle; a checkpoint does not say all.", hint=hint)
    require_torch()
    names = _names(classes)
    told = str(file.absolute()), architecture, json.dumps(names), str(target)
    try:
        json_child.ask(python("-m", "models.inference.checkpoint", *told))
    except json_child.ChildDied as error:
        raise WeightsMismatch(f"{file.name} could not be read: {error}") from error


def _names(classes: str) -> list[str]:
    listed = Path(classes)
    with contextlib.suppress(OSError):  # A long list is no name of a file.
        if listed.is_file():
            return [line for line in listed.read_text(encoding="utf-8").splitlines() if line]
    return [name.strip() for name in classes.split(",")]
