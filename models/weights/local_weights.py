"""The folder of pretrained weights: what is in it, and whether it is still what was put there.

Each network has one file, `<architecture>.safetensors`, and beside it `<architecture>.json` with
its origin and hash. Needs no torch; `models.weights.pretrained` fetches, checks and converts.
"""

import json
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.system import json_child
from core.system.atomic_files import sha256, sync
from core.system.child import reader
from core.system.command_names import command, where
from models.planning import catalogue
from models.planning.catalogue import HEADER_LIMIT
from topwork.errors import WeightsMismatch, WeightsUnavailable


@dataclass(frozen=True, slots=True)
class Record:
    """Where a file of weights came from; None where nobody wrote it down."""

    source: str | None = None
    preset: str | None = None  # Name of the published set, such as IMAGENET1K_V2.
    sha256: str | None = None  # Of the safetensors file.
    license: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of weights in the folder."""

    architecture: str
    path: Path
    bytes: int
    record: Record

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        named = {"architecture": self.architecture, "path": str(self.path), "bytes": self.bytes}
        return {**named, **asdict(self.record)}


@dataclass(frozen=True, slots=True)
class Check:
    """What re-reading one file showed: `unrecorded` files are readable but have no known hash."""

    entry: Entry
    state: Literal["intact", "changed", "unreadable", "unrecorded"]


def path_of(weights_dir: Path, architecture: str) -> Path:
    """Return where the weights of an architecture belong, whether or not they are there."""
    return weights_dir / f"{catalogue.get(architecture).name}.safetensors"


def find(weights_dir: Path, architecture: str) -> Entry | None:
    """Return the file of one architecture if it is there."""
    path = path_of(weights_dir, architecture)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    return Entry(architecture, path, size, _record(path))


def entries(weights_dir: Path) -> list[Entry]:
    """Return every file of weights in the folder, by name; files of no known network are left."""
    found = (find(weights_dir, name) for name in catalogue.names())
    return [entry for entry in found if entry is not None]


def verify(weights_dir: Path, architecture: str | None = None) -> list[Check]:
    """Read the files, or one of them, again and compare them with their recorded hashes."""
    if architecture is None:
        return [check(entry) for entry in entries(weights_dir)]
    entry = find(weights_dir, architecture)
    if entry is None:
        raise WeightsUnavailable(f"There are no weights for {architecture} in {weights_dir}.")
    return [check(entry)]


def check(entry: Entry) -> Check:
    """Read one file again."""
    try:
        header(entry.path)
        digest = sha256(entry.path) if entry.record.sha256 else None
    except (OSError, WeightsMismatch):
        return Check(entry, "unreadable")
    if digest is None:
        return Check(entry, "unrecorded")
    return Check(entry, "intact" if digest == entry.record.sha256 else "changed")


def header(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a safetensors file by tensor name; raises WeightsMismatch for others."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(struct.calcsize("<Q")), "little")
        if length > HEADER_LIMIT:
            raise WeightsMismatch(f"{path.name} is no safetensors file: its header is too long.")
        try:
            fields = json.loads(file.read(length))
            tensors = {name: entry for name, entry in fields.items() if name != "__metadata__"}
            return {name: tuple(entry["shape"]) for name, entry in tensors.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WeightsMismatch(f"{path.name} is no safetensors file.") from error


def publish(temporary: Path, weights_dir: Path, architecture: str, record: Record) -> Entry:
    """Move a complete file to its place, then write its record; a crash leaves no half file.

    The record gets the file's hash here.
    """
    path = path_of(weights_dir, architecture)
    sync(temporary)
    record = replace(record, sha256=sha256(temporary))
    note = temporary.with_suffix(".note")
    note.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    sync(note)
    # Without its record the new file counts as unrecorded, with the old one it would as changed.
    path.with_suffix(".json").unlink(missing_ok=True)
    temporary.replace(path)
    note.replace(path.with_suffix(".json"))
    sync(weights_dir)
    return Entry(architecture, path, path.stat().st_size, record)


def add(architecture: str, file: Path, weights_dir: Path) -> Entry:
    """Check a .pth, .pt or .safetensors file against the network and keep it; in a child process.

    Reading it needs torch, which the caller may not have loaded.

    Raises:
        ArchitectureUnknown: There is no network of this name.
        WeightsMismatch: The file is not readable, not of this network, or has non-finite numbers.
    """
    catalogue.get(architecture)
    places = str(file.absolute()), str(weights_dir.absolute())
    child = reader("-m", "models.weights.pretrained", architecture, *places)
    try:
        added = json_child.ask(child)
    except json_child.ChildDied as error:
        raise WeightsMismatch(f"{file.name} could not be read: {error}") from error
    name, path, size = (added.pop(field) for field in ("architecture", "path", "bytes"))
    return Entry(name, Path(path), size, Record(**added))


def bring(architecture: str, weights_dir: Path) -> str:
    """Return how published weights come to a machine that does not download them."""
    published = catalogue.get(architecture).weights
    assert published is not None  # noqa: S101 - who asks has looked.
    add = command("weights", "add", architecture, published.file, weights_dir=weights_dir)
    return f"Fetch {published.url} on a machine with internet, then run {add} {where()}."


def _record(path: Path) -> Record:
    try:
        fields = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return Record(**{name: fields.get(name) for name in Record.__slots__})
    except (OSError, ValueError, AttributeError):
        return Record()
