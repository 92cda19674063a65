"""Find out which columns of a table name the image, its class and its split (pure).

The column of images is found by its content: most of its texts are images of the upload. That of
the class is found by its name, or is the only one that is left, where it holds fewer texts than
there are images; where all that are left hold nothing but 0 and 1, they are one-hot.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from core.ingest.split_folders import EVERY_NAME
from core.ingest.tables.sheet import SAMPLE, Sheet, delimited
from topwork.kinds import Split

LABEL_NAMES = (
    "label", "labels", "class", "classes", "class_name", "classname", "label_name", "class_label",
    "category", "category_name", "target", "species", "breed", "choice", "tag", "ground_truth", "y",
)  # fmt: skip
SPLIT_NAMES = ("split", "subset", "set", "partition", "data_set", "dataset", "phase", "usage")
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True, "": False}
LEAST_FOUND = 0.3  # Of the rows; the others are reported one by one.
MOST_CLASSES = 0.5  # Of the rows; a column of more different texts names no classes.
HEADS = 1

Item = TypeVar("Item")
Find = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a sheet has what; `labels` are several where the table is one-hot.

    `candidates` are the columns that could name the class where no name says which does.
    """

    file: int
    labels: tuple[int, ...] = ()
    split: int | None = None
    one_hot: bool = False
    named: bool = False
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a table: what names it, its classes and its split, if it has one."""

    file: str
    labels: tuple[str, ...]
    split: Split | None


def headed(sheet: Sheet, find: Find) -> Sheet:
    """Return a sheet with the column names of its first row, and a list as the columns it has."""
    if sheet.columns == ("1",):
        sheet = _cut(sheet, find)
    numbered = tuple(str(number) for number in range(1, len(sheet.columns) + 1))
    if sheet.columns != numbered or any(find(str(cell)) for cell in sheet.rows[0]):
        return sheet
    return Sheet(tuple(str(cell) for cell in sheet.rows[0]), sheet.rows[HEADS:])


def _cut(sheet: Sheet, find: Find) -> Sheet:
    """Cut lines of a list into columns, where it is not a whole line that names an image."""
    lines = [str(row[0]) for row in sheet.rows]
    if any(find(line) for line in _spread(lines)):
        return sheet
    cuts: list[Sequence[Sequence[str]]] = [
        [line.rsplit(None, 1) for line in lines],
        [line.split(None, 1) for line in lines],
    ]
    for rows in cuts:
        if all(len(row) > 1 for row in rows) and any(find(row[0]) for row in _spread(rows)):
            return Sheet(("1", "2"), rows)
    try:
        return delimited("\n".join(lines)) or sheet
    except ValueError:  # Prose, whose lines may be longer than cells are.
        return sheet


def columns_of(sheet: Sheet, find: Find, label_column: str | None = None) -> Columns | None:
    """Return what the columns of a sheet are; None where none names images of the upload.

    Args:
        sheet: Its columns have names, where it has any.
        find: Returns the image that a text means.
        label_column: The column of the class, as the request says.
    """
    rows = _spread(sheet.rows)
    file = _file_column(sheet, rows, find)
    if file is None:
        return None
    names = [_word(name) for name in sheet.columns]
    rest = [at for at in range(len(names)) if at != file]
    split = next((at for at in rest if names[at] in SPLIT_NAMES and _is_split(rows, at)), None)
    rest = [at for at in rest if at != split]
    if label_column is not None:
        asked = [at for at in rest if sheet.columns[at] == label_column]
        return Columns(file, tuple(asked[:1]), split, named=True)
    named = [at for at in rest if names[at] in LABEL_NAMES]
    if named:
        best = _finest(rows, named)
        found, rivals = ((), tuple(named)) if best is None else ((best,), ())
        return Columns(file, found, split, named=True, candidates=rivals)
    rest = [at for at in rest if any(text.strip() for text in _texts(rows, at))]
    # Beside any other column, flags are facts of which several may hold.
    if len(rest) > 1 and all(_flag(row[at]) is not None for at in rest for row in rows):
        return Columns(file, tuple(rest), split, one_hot=True, named=True)
    few = [at for at in rest if 1 < len(_texts(rows, at)) <= max(2, MOST_CLASSES * len(rows))]
    if few and len(rest) == 1:
        return Columns(file, tuple(few), split)
    return Columns(file, (), split, candidates=tuple(few))


def rows_of(sheet: Sheet, columns: Columns) -> Iterator[Row]:
    """Yield what each row says; a row without a class has no labels."""
    for cells in sheet.rows:
        if columns.one_hot:
            labels = tuple(sheet.columns[at].strip() for at in columns.labels if _flag(cells[at]))
        else:
            found = (it for at in columns.labels for it in _labels(cells[at]))
            labels = tuple(dict.fromkeys(found))
        split = None if columns.split is None else split_of(cells[columns.split])
        yield Row(str(cells[columns.file]), labels, split)


def split_of(cell: Any) -> Split | None:
    """Return the split that a word means, if it means one."""
    return EVERY_NAME.get(str(cell).strip().casefold())


def _file_column(sheet: Sheet, rows: Sequence[Sequence[Any]], find: Find) -> int | None:
    """Return the column whose texts are the most different images."""
    found = [
        len({find(it) for it in _texts(rows, at)} - {None}) for at in range(len(sheet.columns))
    ]
    best = max(range(len(found)), key=lambda at: found[at], default=None)
    enough = best is not None and found[best] and found[best] >= LEAST_FOUND * len(rows)
    return best if enough else None


def _finest(rows: Sequence[Sequence[Any]], named: Sequence[int]) -> int | None:
    """Return the one column of those that name the class; None where they say different things."""
    first, *others = sorted(named, key=lambda at: _are_numbers(rows, at))
    for other in others:
        pairs = {(str(row[first]), str(row[other])) for row in rows}
        if len(pairs) > min(len(_texts(rows, first)), len(_texts(rows, other))):
            return None
    return first


def _are_numbers(rows: Sequence[Sequence[Any]], at: int) -> bool:
    return all(text.replace(".", "").isdecimal() for text in _texts(rows, at))


def _is_split(rows: Sequence[Sequence[Any]], at: int) -> bool:
    return all(split_of(text) is not None for text in _texts(rows, at) if text)


def _texts(rows: Sequence[Sequence[Any]], at: int) -> set[str]:
    return {str(row[at]) for row in rows if row[at] is not None}


def _flag(cell: Any) -> bool | None:
    return FLAGS.get(str(cell).strip().lower())


def _labels(cell: Any) -> list[str]:
    """Return the classes that a cell names; JSON may hold a list of them, or an object for one."""
    if isinstance(cell, dict):
        return _labels(cell.get("label", cell.get("name")))
    if isinstance(cell, list):
        return [label for it in cell for label in _labels(it)]
    text = "" if cell is None else str(cell).strip()
    return [text] if text else []


def _word(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def _spread(items: Sequence[Item]) -> Sequence[Item]:
    return items[:: len(items) // SAMPLE + 1]
