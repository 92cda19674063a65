"""Read a folder tree as classes and splits, or say in which two ways it can be read (pure).

Accepted: one folder per class; optionally below `train/`, `val|valid|validation/`, `test/`; any
number of folders around that. Only folder names count. What lies deeper inside a class folder
belongs to the class as long as the class folder holds images itself; where it does not, the inner
folders could be the classes, and the answer is `LayoutAmbiguous`, never a guess.
"""

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from core.ingest.archive import Refusal
from topwork.errors import DatasetInvalid, LayoutAmbiguous
from topwork.kinds import Split

SPLIT_NAMES = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
}
MAX_CLASSES = 5000
MAX_CLASS_NAME = 100
SHOWN = 5
WAY_OUT = "To name the classes beyond doubt, put one folder per class below a folder `train`."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file belongs; `split` is None where the archive has no splits."""

    class_name: str
    split: Split | None


@dataclass(slots=True)
class Reading:
    """What a folder tree means.

    Args:
        places: Path -> class and split, for every file that has a class.
        declared: (split, class) pairs for which there is a folder, empty ones included.
        refusals: Files without a class, or whose class name cannot be used.
        nested: Paths that lie deeper than directly in their class folder.
        roots: Folders in which the class folders lie, as prefixes of paths.
    """

    places: dict[str, Place] = field(default_factory=dict)
    declared: set[tuple[Split | None, str]] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)

    @property
    def splits(self) -> list[Split]:
        """Return the splits that the archive names, in the order train, val, test."""
        present = {split for split, _ in self.declared}
        return [split for split in Split if split in present]


@dataclass(slots=True)
class _Folder:
    path: str = ""
    files: list[str] = field(default_factory=list)
    folders: dict[str, "_Folder"] = field(default_factory=dict)

    def all_files(self) -> list[str]:
        """Return the folder's own files, then those further down."""
        inner = [path for folder in self.folders.values() for path in folder.all_files()]
        return self.files + inner

    def holds_files(self) -> bool:
        return bool(self.files) or any(inner.holds_files() for inner in self.folders.values())

    def filled(self) -> dict[str, "_Folder"]:
        return {name: inner for name, inner in self.folders.items() if inner.holds_files()}


def read_layout(
    files: Iterable[str], folders: Iterable[str] = (), refused: Iterable[str] = ()
) -> Reading:
    """Find the classes and splits in a tree of safe paths (`archive.clean`).

    Args:
        files: Paths that may be images.
        folders: Paths of folders, so that empty classes are seen.
        refused: Paths that show what the folders mean, of files that are not used.

    Raises:
        LayoutAmbiguous: The tree can be read in two ways; the message spells out both.
        DatasetInvalid: There are more than `MAX_CLASSES` class folders.
    """
    used = list(files)
    left_out = set(refused).difference(used)
    tree = _tree([*used, *left_out], folders)
    reading = Reading()
    while not _named_splits(tree) and len(tree.filled()) == 1:
        (only,) = tree.filled().values()
        if not only.filled():
            break
        _refuse(reading, tree.files, "no_class")
        tree = only
    parts = _split_folders(tree)
    _refuse(reading, tree.files, "no_class")
    for split, part in parts:
        reading.roots.append(part.path)
        if split is not None:
            _refuse(reading, part.files, "no_class")
        _check_nesting(part)
        for name, folder in part.folders.items():
            _place(reading, split, name, folder)
    check_classes({name for _, name in reading.declared})
    for path in left_out:
        reading.places.pop(path, None)
    reading.refusals = [it for it in reading.refusals if it.path not in left_out]
    reading.nested = [path for path in reading.nested if path not in left_out]
    return reading


def _tree(files: Iterable[str], folders: Iterable[str]) -> _Folder:
    root = _Folder()
    for path in folders:
        _descend(root, path.split("/"))
    for path in files:
        *parents, _ = path.split("/")
        _descend(root, parents).files.append(path)
    return root


def _descend(folder: _Folder, segments: Iterable[str]) -> _Folder:
    for segment in segments:
        if segment not in folder.folders:
            folder.folders[segment] = _Folder(f"{folder.path}{segment}/")
        folder = folder.folders[segment]
    return folder


def _named_splits(folder: _Folder) -> list[str]:
    return sorted(name for name in folder.folders if name.casefold() in SPLIT_NAMES)


def _split_folders(tree: _Folder) -> list[tuple[Split | None, _Folder]]:
    """Return the folders that hold class folders, each with its split."""
    named = [name for name in _named_splits(tree) if tree.folders[name].holds_files()]
    if not named:
        return [(None, tree)]
    others = [name for name in tree.filled() if name not in named]
    as_classes = f"{_count(tree.filled(), 'class', 'classes')} ({_some(tree.filled())})"
    as_splits = f"the splits {_some(named)}"
    splits = [SPLIT_NAMES[name.casefold()] for name in named]
    flat = [name for name in named if not tree.folders[name].filled()]
    problem = None
    if others:
        problem = f"{as_splits}, with {_some(others)} belonging to none of them"
    elif flat:
        problem = f"{as_splits}, with the images in {_some(flat)} in no class folder"
    elif len(set(splits)) < len(splits):
        problem = f"{as_splits}, two of which mean the same split"
    elif Split.TRAIN not in splits:
        problem = f"{as_splits}, without a folder `train`"
    if problem is not None:
        raise _ambiguous(problem, as_classes, WAY_OUT)
    return [(split, tree.folders[name]) for split, name in zip(splits, named, strict=True)]


def _check_nesting(part: _Folder) -> None:
    """Refuse class folders whose images all lie deeper: the inner folders may be the classes."""
    hollow = {name: folder for name, folder in part.filled().items() if not folder.files}
    if hollow:
        inner = [f"{name}/{below}" for name, folder in hollow.items() for below in folder.filled()]
        raise _ambiguous(
            f"{_count(part.filled(), 'class', 'classes')} ({_some(part.filled())}), with the"
            " images of all folders below belonging to them",
            f"classes named after the inner folders ({_some(inner)})",
            "Put the images of each class directly into one folder named after the class, and"
            " `train`, `val` and `test` above the classes.",
        )


def _place(reading: Reading, split: Split | None, name: str, folder: _Folder) -> None:
    files = folder.all_files()
    problem = class_name_problem(name)
    if problem is not None:
        _refuse(reading, files, "class_name_invalid", problem)
        return
    reading.declared.add((split, name))
    place = Place(name, split)
    reading.places.update(dict.fromkeys(files, place))
    reading.nested.extend(files[len(folder.files) :])


def class_name_problem(name: str) -> str | None:
    """Return why a class cannot have this name, or None when it can."""
    if not name.strip():
        return "A class name is empty."
    if len(name) > MAX_CLASS_NAME:
        return f"The class name {name[:20]!r}... is over {MAX_CLASS_NAME} characters long."
    if not name.isprintable():
        return f"The class name {name!a} contains characters that cannot be shown."
    if not unicodedata.is_normalized("NFC", name):
        return f"The class name {name!a} is not in Unicode's composed form (NFC)."
    return None


def check_classes(names: Collection[str]) -> None:
    """Refuse more classes than `MAX_CLASSES`, and names that could be taken for one another.

    Raises:
        DatasetInvalid: There are too many.
        LayoutAmbiguous: Two names differ only in case or in spaces around them.
    """
    if len(names) > MAX_CLASSES:
        raise DatasetInvalid(f"There are {len(names)} class folders; the limit is {MAX_CLASSES}.")
    seen: dict[str, str] = {}
    for name in sorted(names):
        twin = seen.setdefault(name.strip().casefold(), name)
        if twin != name:
            raise _ambiguous(
                f"the two classes {twin!r} and {name!r}",
                "one class whose folder name is spelled in two ways",
                "Use one spelling, or clearly different names.",
            )


def _refuse(reading: Reading, paths: Iterable[str], code: str, detail: str = "") -> None:
    reading.refusals.extend(Refusal(path, code, detail) for path in paths)


def _ambiguous(first: str, second: str, hint: str) -> LayoutAmbiguous:
    return LayoutAmbiguous(
        f"The folders can be read in two ways: as {first}; or as {second}.", hint=hint
    )


def _some(names: Collection[str] | Mapping[str, object]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, ..."


def _count(items: Collection[object], one: str, many: str) -> str:
    return f"{len(items)} {one if len(items) == 1 else many}"
