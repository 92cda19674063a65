"""Read a folder tree as classes and splits, or say in which two ways it can be read (pure).

Accepted: one folder per class; optionally below `train/`, `val|valid|validation/`, `test/`; any
number of folders around that. Only folder names count. What lies deeper inside a class folder
belongs to the class as long as the class folder holds images itself; where it does not, the inner
folders could be the classes, and the answer is `LayoutAmbiguous`, never a guess. A `LayoutAnswer`
settles each such question.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from core.ingest.archive import MAX_FOLDERS, Refusal
from core.ingest.class_names import check_classes, class_name_problem, class_of
from core.ingest.folder_tree import Folder, folder_tree
from core.ingest.split_folders import (
    NO_ANSWER,
    LayoutAnswer,
    ambiguous,
    answered_parts,
    counted,
    named_folder,
    recognised_parts,
    some,
    start_of,
)
from topwork.errors import LayoutMismatch
from topwork.kinds import ClassSource, Split

HOW_TO_NEST = (
    "Put the images of each class directly into one folder named after the class, and"
    " `train`, `val` and `test` above the classes."
)


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
        roots: Folders in which the classes lie, as prefixes of paths.
        ignored: Folders that the request leaves out, as prefixes of paths.
        source: What of a path names the class.
        named: Path -> class, where tables name it, of files that are not used as well.
        tables: Path of each table that is used -> its columns.
        broken: Path of each table that cannot be read -> why.
        groups: Path -> what the column that makes groups says, where one is asked for.
    """

    places: dict[str, Place] = field(default_factory=dict)
    declared: set[tuple[Split | None, str]] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    source: ClassSource = ClassSource.OUTER
    named: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def splits(self) -> list[Split]:
        """Return the splits that the archive names, in the order train, val, test."""
        present = {split for split, _ in self.declared}
        return [split for split in Split if split in present]

    def class_of(self, path: str) -> str | None:
        """Return the class in whose place a file lies, whatever became of the file."""
        if self.named:
            return self.named.get(path)
        if not path.startswith(tuple(self.ignored)):
            for root in sorted(self.roots, key=len, reverse=True):
                if path.startswith(root):
                    return class_of(self.source, path.removeprefix(root))
        return None


def read_layout(
    files: Iterable[str],
    folders: Iterable[str] = (),
    refused: Iterable[str] = (),
    answer: LayoutAnswer = NO_ANSWER,
) -> Reading:
    """Find the classes and splits in a tree of safe paths (`archive.clean`).

    Args:
        files: Paths that may be images.
        folders: Paths of folders, so that empty classes are seen.
        refused: Paths that show what the folders mean, of files that are not used.
        answer: What the request says about the folders.

    Raises:
        LayoutAmbiguous: The tree can be read in two ways; the message spells out both.
        LayoutMismatch: The answer does not fit the folders.
        DatasetInvalid: There are more than `MAX_CLASSES` class folders.
    """
    used = list(files)
    left_out = set(refused).difference(used)
    reading = Reading(source=answer.classes or ClassSource.OUTER)
    root = _tree(reading, [*used, *left_out], list(folders))
    start, every = start_of(root), root.all_files()
    for folder in [named_folder(root, start, "ignore", path) for path in answer.ignore]:
        if folder is start or folder is root:
            raise LayoutMismatch("the request ignores the whole upload", param="layout.ignore")
        root.take(folder)
        reading.ignored.append(folder.path)
        _refuse(reading, folder.all_files(), "ignored")
    if answer.splits():
        parts = answered_parts(root, start, answer)
    else:
        by_file_name = answer.classes is ClassSource.FILENAME
        parts = recognised_parts(start_of(root), by_file_name=by_file_name)
    for folder in parts.unlabelled:
        _refuse(reading, folder.all_files(), "unlabelled")
    for split, part in parts.labelled:
        reading.roots.append(part.path)
        if answer.classes is None:
            _check_nesting(part)
        _place(reading, split, part)
    check_classes({name for _, name in reading.declared})
    told = {refusal.path for refusal in reading.refusals}
    rest = [path for path in every if path not in reading.places and path not in told]
    _refuse(reading, rest, "no_class")
    for path in left_out:
        reading.places.pop(path, None)
    reading.refusals = [it for it in reading.refusals if it.path not in left_out]
    reading.nested = [path for path in reading.nested if path not in left_out]
    return reading


def _tree(reading: Reading, files: list[str], folders: list[str]) -> Folder:
    """Return the tree of all files but those that lie too deep to tell what the folders mean."""
    root = folder_tree(files, folders)
    start = start_of(root).path
    deep = {path for path in files if path.removeprefix(start).count("/") > MAX_FOLDERS}
    _refuse(reading, sorted(deep), "path_too_deep")
    return folder_tree((it for it in files if it not in deep), folders) if deep else root


def _check_nesting(part: Folder) -> None:
    """Refuse class folders whose images all lie deeper: the inner folders may be the classes."""
    hollow = {name: folder for name, folder in part.filled().items() if not folder.files}
    if hollow:
        inner = [f"{name}/{below}" for name, folder in hollow.items() for below in folder.filled()]
        raise ambiguous(
            f"{counted(part.filled(), 'class', 'classes')}, with the images of all folders below"
            " belonging to them",
            f"classes named after the inner folders ({some(inner)})",
            HOW_TO_NEST,
        )


def _place(reading: Reading, split: Split | None, part: Folder) -> None:
    """Give each file of a part its class, and declare the classes that have no file."""
    problems: dict[str, str | None] = {}
    for path in part.all_files():
        inside = path.removeprefix(part.path)
        depth, name = inside.count("/"), class_of(reading.source, inside)
        if name is None:
            continue
        if name not in problems:
            problems[name] = class_name_problem(name)
        if (problem := problems[name]) is not None:
            _refuse(reading, [path], "class_name_invalid", problem)
        else:
            reading.places[path] = Place(name, split)
            if reading.source is ClassSource.OUTER and depth > 1:
                reading.nested.append(path)
    outer = reading.source is ClassSource.OUTER
    empty = [it for it in (part.folders.values() if outer else part.leaves()) if it is not part]
    told = (class_of(reading.source, f"{it.path.removeprefix(part.path)}x") for it in empty)
    problems |= {name: class_name_problem(name) for name in told if name is not None}
    reading.declared |= {(split, name) for name, problem in problems.items() if problem is None}


def _refuse(reading: Reading, paths: Iterable[str], code: str, detail: str = "") -> None:
    reading.refusals.extend(Refusal(path, code, detail) for path in paths)
