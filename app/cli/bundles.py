"""Whatever a model comes as, for `topwork models import`: made into the bundle that is sent."""

import contextlib
import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from core.ingest.class_names import MAX_CLASSES, class_name_problem
from core.system import json_child
from core.system.child import reader
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
    try:
        with zipfile.ZipFile(source) as archive:
            return bundle.CARD in archive.namelist()
    except zipfile.BadZipFile:  # It only ends as one does.
        return False


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
    # A file, as thousands of names are longer than an argument may be.
    names = target.with_name("classes.json")
    names.write_text(json.dumps(_names(classes)), encoding="utf-8")
    require_torch()
    told = str(file.absolute()), architecture, str(names), str(target)
    try:
        json_child.ask(reader("-m", "models.inference.checkpoint", *told))
    except json_child.ChildDied as error:
        raise WeightsMismatch(f"{file.name} could not be read: {error}") from error


def _names(classes: str) -> list[str]:
    """Return the names, which a service would take.

    Raises:
        InvalidField: It would not, or their file is no text.
    """
    names = [name.strip() for name in _listed(classes)]
    problem = next(filter(None, map(class_name_problem, names)), None)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        problem = f"The class {twice[0]!r} is named twice."
    if len(names) > MAX_CLASSES:
        problem = f"There are {len(names)} classes; the limit is {MAX_CLASSES}."
    if problem is not None:
        raise InvalidField(problem, hint="Give each output of the network a name of its own.")
    return names


def _listed(classes: str) -> list[str]:
    listed = Path(classes)
    with contextlib.suppress(OSError):  # A long list is no name of a file.
        if listed.is_file():
            try:
                return listed.read_text(encoding="utf-8-sig").strip().splitlines() or [""]
            except UnicodeDecodeError:
                hint = "Save it as UTF-8, with one class a line."
                raise InvalidField(f"{listed} is not UTF-8 text.", hint=hint) from None
    return classes.split(",")
