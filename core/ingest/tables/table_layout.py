"""Read classes and splits from tables in place of folders, and splits from lists (pure)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from core.ingest.archive import Refusal, printable
from core.ingest.class_names import check_classes, class_name_problem
from core.ingest.folder_tree import folder_tree
from core.ingest.layout import Place, Reading
from core.ingest.split import HELD_OUT_FIRST
from core.ingest.split_folders import LayoutAnswer, named_folder, split_names, start_of
from core.ingest.tables.columns import Row
from core.ingest.tables.labels import Labels
from topwork.kinds import Split


def read_by_tables(
    tables: Sequence[Labels], files: Collection[str], refused: Collection[str], answer: LayoutAnswer
) -> Reading:
    """Give each file the class and split that the tables say, and its folder's split else.

    Args:
        tables: Of which no two contradict one another.
        files: Paths that may be images.
        refused: Paths of images that are not used.
        answer: What the request says about the folders.

    Raises:
        LayoutAmbiguous: Two classes differ only in case or in spaces around them.
        LayoutMismatch: The answer names a folder that is not there.
        DatasetInvalid: There are more classes than are trained on.
    """
    reading = Reading(tables={it.table: it.words for it in tables}, named={})
    prefixes = _split_folders([*files, *refused], answer)
    ignored = tuple(_ignored([*files, *refused], answer))
    rows = merged(it.rows for it in tables)
    for path in files:
        row, split = rows.get(path), _split_at(path, prefixes)
        if ignored and path.startswith(ignored):
            reading.refusals.append(Refusal(path, "ignored"))
        elif row is None or not row.labels:
            reading.refusals.append(Refusal(path, "no_label"))
        elif len(row.labels) > 1:
            told = f"The table gives the file {len(row.labels)} classes; one is meant to be used."
            reading.refusals.append(Refusal(path, "multi_label", told))
        else:
            _place(reading, path, row.labels[0], row.split or split)
    missing = {printable(text): row for it in tables for text, row in it.missing.items()}
    reading.refusals += [Refusal(text, "file_missing") for text in missing]
    known = [it for it in refused if it in rows and not it.startswith(ignored)]
    for path, row in [*missing.items(), *((path, rows[path]) for path in known)]:
        for label in row.labels[:1]:
            reading.named[path] = label
            if class_name_problem(label) is None:
                reading.declared.add((row.split or _split_at(path, prefixes), label))
    check_classes({name for _, name in reading.declared})
    return reading


def _place(reading: Reading, path: str, label: str, split: Split | None) -> None:
    reading.named[path] = label
    problem = class_name_problem(label)
    if problem is not None:
        reading.refusals.append(Refusal(path, "class_name_invalid", problem))
        return
    reading.places[path] = Place(label, split)
    reading.declared.add((split, label))


def apply_splits(reading: Reading, lists: Sequence[Labels]) -> None:
    """Give the files of a tree without splits those that lists name; change it in place.

    A file that several lists name is held out, because what was trained on measures nothing. One
    that none names is left out where the training images are listed, and is one of these else.
    """
    rows = merged(it.rows for it in lists)
    listed = {row.split for row in rows.values()}
    rest = None if Split.TRAIN in listed else Split.TRAIN
    declared = set()
    for path, place in list(reading.places.items()):
        row = rows.get(path)
        split = (row.split if row is not None else None) or rest
        if split is None:
            reading.refusals.append(Refusal(path, "not_in_split"))
            del reading.places[path]
            continue
        reading.places[path] = replace(place, split=split)
        declared.add((split, place.class_name))
    named = {name for _, name in declared}
    reading.declared = declared | {it for it in reading.declared if it[1] not in named}
    reading.tables |= {it.table: it.words for it in lists}


def merged(parts: Iterable[dict[str, Row]]) -> dict[str, Row]:
    """Return what several tables say together: all labels, and the split that is held out most."""
    found: dict[str, Row] = {}
    for rows in parts:
        for path, row in rows.items():
            earlier = found.get(path, row)
            labels = tuple(dict.fromkeys((*earlier.labels, *row.labels)))
            split = min(earlier.split, row.split, key=HELD_OUT_FIRST.__getitem__)
            found[path] = Row(row.file, labels, split)
    return found


def _split_folders(paths: Iterable[str], answer: LayoutAnswer) -> dict[str, Split]:
    """Return the folders of splits, as prefixes of paths: those named so, or as the answer says."""
    root = folder_tree(paths)
    start = start_of(root)
    if answer.splits():
        return {named_folder(root, start, it, path).path: it for it, path in answer.splits()}
    named = split_names(start.filled())
    return {start.folders[name].path: it for name, it in named.items() if it is not None}


def _ignored(paths: Iterable[str], answer: LayoutAnswer) -> Iterable[str]:
    root = folder_tree(paths)
    start = start_of(root)
    return [named_folder(root, start, "ignore", path).path for path in answer.ignore]


def _split_at(path: str, prefixes: dict[str, Split]) -> Split | None:
    return next((split for prefix, split in prefixes.items() if path.startswith(prefix)), None)
