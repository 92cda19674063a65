"""Which folders of a tree are splits: by their names, or as a request says (pure)."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from core.ingest.folder_tree import Folder
from topwork.errors import LayoutAmbiguous, LayoutMismatch
from topwork.kinds import ClassSource, Split

SPLIT_NAMES = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
}
# These may be classes, unless a folder of the names above lies beside them.
BESIDE_SPLITS = {"dev": Split.VAL, "validate": Split.VAL, "trn": Split.TRAIN, "tst": Split.TEST}
UNLABELLED = ("pred", "predict", "prediction", "predictions", "unlabelled", "unlabeled")
EVERY_NAME = SPLIT_NAMES | BESIDE_SPLITS
# `seg_train` beside `seg_test`, `trainset` beside `testset`.
FAMILY = re.compile(
    rf"(|.*[\W_])({'|'.join([*EVERY_NAME, *UNLABELLED])})(|[\W_].*|sets?|data|images)", re.DOTALL
)
MOST_SIBLINGS = 1000  # Beside which nobody means folders as splits; each name takes a while.
SHOWN = 5
WAY_OUT = "To name the classes beyond doubt, put one folder per class below a folder `train`."


@dataclass(frozen=True, slots=True)
class LayoutAnswer:
    """What a request says about the folders of its upload; `topwork.types.Layout` explains it."""

    train: Sequence[str] = ()
    val: Sequence[str] = ()
    test: Sequence[str] = ()
    ignore: Sequence[str] = ()
    classes: ClassSource | None = None
    labels: Sequence[str] = ()
    label_column: str | None = None

    @classmethod
    def of(cls, answers: Mapping[str, Any]) -> Self:
        """Return the answer that a request's JSON holds; none where it says nothing."""
        given = dict(answers.get("layout") or {})
        source = given.pop("classes", None)
        return cls(**given, classes=ClassSource(source) if source else None)

    def splits(self) -> list[tuple[Split, str]]:
        """Return each folder that is said to be a split, with the split."""
        named = {Split.TRAIN: self.train, Split.VAL: self.val, Split.TEST: self.test}
        return [(split, path) for split, paths in named.items() for path in paths]


NO_ANSWER = LayoutAnswer()


Part = tuple[Split | None, Folder]


@dataclass(slots=True)
class Parts:
    """The folders that hold classes, each with its split, and those whose images have no label."""

    labelled: list[Part] = field(default_factory=list)
    unlabelled: list[Folder] = field(default_factory=list)


def start_of(root: Folder) -> Folder:
    """Return the folder below which the tree has a meaning: several folders, or named splits."""
    while not split_names(root.folders) and (only := root.only()) and only.filled():
        root = only
    return root


def split_names(names: Iterable[str]) -> dict[str, Split | None]:
    """Return those folders side by side that are named like splits; None for unlabelled images."""
    words = {name: name.casefold() for name in names}
    if any(word in SPLIT_NAMES for word in words.values()):
        known = {**EVERY_NAME, **dict.fromkeys(UNLABELLED)}
        return {name: known[word] for name, word in sorted(words.items()) if word in known}
    if len(words) > MOST_SIBLINGS:
        return {}
    families: dict[tuple[str, str], dict[str, Split | None]] = defaultdict(dict)
    for name, word in sorted(words.items()):
        if found := FAMILY.fullmatch(word):
            families[found[1], found[3]][name] = EVERY_NAME.get(found[2])
    whole = [it for it in families.values() if Split.TRAIN in it.values() and len(it) > 1]
    return whole[0] if len(whole) == 1 else {}


def recognised_parts(start: Folder, *, by_file_name: bool = False) -> Parts:
    """Return the splits that are named like splits; where none are, the tree as one part.

    Raises:
        LayoutAmbiguous: They could be classes as well.
    """
    names = {name: it for name, it in split_names(start.folders).items() if name in start.filled()}
    if not names:
        return Parts([(None, start)])
    parts = {name: unwrapped(start.folders[name]) for name in names}
    flat = [name for name, it in parts.items() if not it.filled()]
    flat = [name for name in flat if not (by_file_name and names[name])]
    trained = any(it is Split.TRAIN and name not in flat for name, it in names.items())
    given = {name: it for name, it in names.items() if it is not None}
    loose = [it for it in flat if trained and names[it] in {None, Split.TEST}]
    others = [it for it in start.filled() if it not in given and it not in loose]
    problem = _problem(given, others, [it for it in flat if it not in loose])
    if problem is not None:
        as_classes = counted(start.filled(), "class", "classes")
        raise ambiguous(f"the splits {some(given)}, {problem}", as_classes, WAY_OUT)
    labelled: list[Part] = [(split, parts[it]) for it, split in given.items() if it not in loose]
    return Parts(_all_unwrapped(labelled), [parts[name] for name in loose])


def _problem(
    given: Mapping[str, Split], others: Collection[str], flat: Collection[str]
) -> str | None:
    if others:
        return f"with {some(others)} belonging to none of them"
    if flat:
        return f"with the images in {some(flat)} in no class folder"
    if len(set(given.values())) < len(given):
        return "two of which mean the same split"
    if Split.TRAIN not in given.values():
        return "without a folder `train`"
    return None


def answered_parts(root: Folder, start: Folder, answer: LayoutAnswer) -> Parts:
    """Return the splits that a request names, and take them out of the tree.

    Raises:
        LayoutMismatch: There is no such folder, or a folder with files belongs to no split.
    """
    named = [(split, named_folder(root, start, split, path)) for split, path in answer.splits()]
    twice = sorted({a.path for n, (_, a) in enumerate(named) for _, b in named[:n] if a is b})
    if twice:
        message = f"the folder {twice[0] or '.'!r} is named twice"
        raise LayoutMismatch(message, param="layout")
    for _, folder in sorted(named, key=lambda it: -len(it[1].path)):
        root.take(folder)
    if start.filled() and not any(start.path.startswith(folder.path) for _, folder in named):
        message = f"the folders {some(start.filled())} belong to none of the splits that are named"
        hint = "Name each in `train`, `val` or `test`, or in `ignore`."
        raise LayoutMismatch(message, param="layout", hint=hint)
    parts: list[Part] = [(s, unwrapped(folder)) for s, folder in named]
    return Parts(parts if answer.classes else _all_unwrapped(parts))


def named_folder(root: Folder, start: Folder, field: str, path: str) -> Folder:
    """Return the folder that a request names, by its path in the upload or from where it starts.

    Raises:
        LayoutMismatch: There is none.
    """
    found = (None if path.strip("/") in {"", "."} else root.find(path)) or start.find(path)
    if found is None:
        message = f"the upload has no folder {path!r}; it has {some(start.filled()) or 'none'}"
        raise LayoutMismatch(message, param=f"layout.{field}")
    return found


def unwrapped(folder: Folder) -> Folder:
    """Go into folders that hold nothing but a folder of the same name, as `train/train`."""
    while (only := _only_folder(folder)) and _name(only) == _name(folder):
        folder = only
    return folder


def _all_unwrapped(parts: list[Part]) -> list[Part]:
    """Go into folders that all splits have and that cannot be classes: there would be only one."""
    while True:
        inner = [(split, _only_folder(folder)) for split, folder in parts]
        deeper = [(split, only) for split, only in inner if only is not None and only.filled()]
        if len({_name(only) for _, only in deeper}) != 1 or len(deeper) < len(parts):
            return parts
        parts = [*deeper]


def _only_folder(folder: Folder) -> Folder | None:
    """Return the folder in which all files lie, where none lies beside it or directly in it."""
    only = folder.only()
    return only if only is not None and not folder.files else None


def _name(folder: Folder) -> str:
    return folder.path.rstrip("/").rpartition("/")[2].casefold()


def ambiguous(first: str, second: str, hint: str) -> LayoutAmbiguous:
    """Return the question between two readings."""
    return LayoutAmbiguous(
        f"The folders can be read in two ways: as {first}; or as {second}.",
        param="layout",
        hint=hint,
    )


def some(names: Collection[str]) -> str:
    """Return the first few names."""
    shown = ", ".join(sorted(names)[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, ..."


def counted(names: Collection[str], one: str, many: str) -> str:
    """Return how many there are, and the first few."""
    return f"{len(names)} {one if len(names) == 1 else many} ({some(names)})"
