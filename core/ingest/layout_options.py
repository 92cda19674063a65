"""Find the answers that would settle a question about an upload's folders (pure).

Each is tried on some files of every folder, so that what is offered does work. The error carries
them as values of the field `layout`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from core.ingest.folder_tree import Folder, folder_tree
from core.ingest.layout import Reading, read_layout
from core.ingest.split_folders import LayoutAnswer, counted, some, split_names, start_of
from topwork.errors import LayoutAmbiguous, TopworkError
from topwork.kinds import ClassSource, Split

TRIED_FILES = 50  # Of one folder, evenly spread: names of classes in file names come in order.
MOST_TRIED = 10_000  # Paths; there are some thirty candidates.
MOST_FOLDERS = 20  # That an answer names; who has more knows a shorter way to say it.
MOST_OPTIONS = 6


def read_or_ask(
    files: Sequence[str], folders: Sequence[str], refused: Sequence[str], answer: LayoutAnswer
) -> Reading:
    """Read a layout; a question about it comes with the answers to choose from.

    Raises:
        LayoutAmbiguous, LayoutMismatch, DatasetInvalid: As `read_layout` does.
    """
    try:
        return read_layout(files, folders, refused, answer)
    except LayoutAmbiguous as question:
        question.options = _options([*files, *refused], folders)
        raise


def _options(files: Iterable[str], folders: Sequence[str]) -> list[dict[str, Any]]:
    """Return `{value, meaning}` of each answer that leads to two classes or more."""
    some_files, folders = _thinned(_spread(files)), _thinned(folders)
    start = start_of(folder_tree(some_files, folders))
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for answer in _candidates(start):
        try:
            reading = read_layout(some_files, folders, answer=answer)
        except TopworkError:
            continue
        classes = {place.class_name for place in reading.places.values()}
        places = reading.places.items()
        key = tuple(sorted((path, it.class_name, it.split or Split.TRAIN) for path, it in places))
        if len(classes) > 1 and key not in found:
            found[key] = {"value": _stated(answer), "meaning": _meaning(reading, classes, answer)}
    return list(found.values())[:MOST_OPTIONS]


def _spread(files: Iterable[str]) -> list[str]:
    by_folder = defaultdict(list)
    for path in files:
        by_folder[path.rpartition("/")[0]].append(path)
    return [path for it in by_folder.values() for path in it[:: len(it) // TRIED_FILES + 1]]


def _thinned(paths: Sequence[str]) -> Sequence[str]:
    return paths[:: len(paths) // MOST_TRIED + 1]


def _candidates(start: Folder) -> Iterator[LayoutAnswer]:
    """Yield answers that people may have meant, the likeliest first."""
    filled = start.filled()
    named = {name: it for name, it in split_names(filled).items() if it is not None}
    rest = [name for name in filled if name not in named]
    labelled = {name: it for name, it in named.items() if filled[name].filled()}
    flat = [name for name in named if name not in labelled]
    deep = {name: Split.TRAIN for name in rest if filled[name].filled()}
    as_train = dict.fromkeys(named, Split.TRAIN)
    splits = [
        LayoutAnswer(),
        _answer(labelled, [*rest, *flat]),
        _answer(named, rest),
        _answer(labelled | deep, [name for name in [*rest, *flat] if name not in deep]),
        _answer(as_train, rest),
        LayoutAnswer(train=(".",)),
    ]
    for answer in splits:
        folders = len(answer.ignore) + len(answer.splits())
        if folders <= MOST_FOLDERS and (answer.train or not answer.splits()):
            yield from (replace(answer, classes=source) for source in (None, *ClassSource))


def _answer(splits: Mapping[str, Split], ignore: Sequence[str]) -> LayoutAnswer:
    folders = {it: tuple(name for name in splits if splits[name] is it) for it in Split}
    return LayoutAnswer(
        folders[Split.TRAIN], folders[Split.VAL], folders[Split.TEST], tuple(ignore)
    )


def _stated(answer: LayoutAnswer) -> dict[str, Any]:
    """Return an answer as the field `layout` has it."""
    return {name: value for name, value in asdict(answer).items() if value}


def _meaning(reading: Reading, classes: set[str], answer: LayoutAnswer) -> str:
    splits = ", ".join(reading.splits) or "drawn from all images"
    without = f"; without {some(answer.ignore)}" if answer.ignore else ""
    return f"{counted(classes, 'class', 'classes')}, splits: {splits}{without}"
