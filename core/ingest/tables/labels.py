"""What the tables of an upload say about its images (pure)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from core.ingest.split_folders import EVERY_NAME, FAMILY
from core.ingest.tables.columns import Find, Row, columns_of, headed, rows_of
from core.ingest.tables.file_index import FileIndex
from core.ingest.tables.sheet import Sheet
from topwork.kinds import Split

NO_TABLE = "submission"  # Kaggle's example of an answer has the form of a table of labels.
NAME_LISTS = ("classes", "synsets", "labels", "class_names", "names", "categories")


@dataclass(slots=True)
class Labels:
    """The classes and splits that one table gives to images.

    Args:
        table: Its path.
        rows: Path of an image -> what the table says of it; each label once.
        missing: Texts that name no image of the upload, each with the row.
        words: The columns, as a user knows them.
        named: A column's name says that these are classes.
        candidates: Columns that could name the class, where it is open which does.
    """

    table: str
    rows: dict[str, Row] = field(default_factory=dict)
    missing: dict[str, Row] = field(default_factory=dict)
    words: str = ""
    named: bool = False
    candidates: tuple[str, ...] = ()

    @property
    def classes(self) -> set[str]:
        """Return all labels, those of rows without an image included."""
        rows = [*self.rows.values(), *self.missing.values()]
        return {label for row in rows for label in row.labels}


def read_tables(
    sheets: Mapping[str, Sheet], index: FileIndex, label_column: str | None = None
) -> list[Labels]:
    """Return what each table says that names images of the upload.

    Args:
        sheets: Path of a table -> its content.
        index: The images.
        label_column: Where their class is, as the request says.
    """
    sheets = {path: it for path, it in sheets.items() if it.rows}
    joined = _birds(sheets)
    found = []
    for path, sheet in (sheets | joined).items():
        if path not in joined and joined and _folder(path) == _folder(next(iter(joined))):
            continue
        labels = _read(path, sheet, index, label_column)
        if labels is not None:
            found.append(labels)
    used = {it.table for it in found}
    names = _names({path: it for path, it in sheets.items() if path not in used})
    return [_with_names(it, names) for it in found]


def values_of(sheets: Mapping[str, Sheet], index: FileIndex, column: str) -> dict[str, str]:
    """Return path of an image -> what a column says of it, in any table that names images."""
    found = {}
    for path, sheet in sheets.items():
        find = _finder(path, index)
        headings = headed(sheet, find) if sheet.rows else sheet
        if column not in headings.columns or not headings.rows:
            continue
        columns, at = columns_of(headings, find), headings.columns.index(column)
        if columns is None:
            continue
        for row in headings.rows:
            image = find(str(row[columns.file])) if len(row) > columns.file else None
            value = str(row[at]).strip() if len(row) > at else ""
            if image is not None and value:
                found[image] = value
    return found


def _finder(path: str, index: FileIndex) -> Find:
    """Return what finds the image that a text in a table means."""
    split = _split_of_table(path)
    prefer = list(_folders_of(index, split)) if split else []
    return lambda text: index.find(text, _folder(path), prefer)


def _read(path: str, sheet: Sheet, index: FileIndex, label_column: str | None) -> Labels | None:
    split, find = _split_of_table(path), _finder(path, index)
    sheet = headed(sheet, find)
    columns = columns_of(sheet, find, label_column) if sheet.rows else None
    if columns is None or NO_TABLE in path.casefold():
        return None
    used = (columns.file, *columns.labels[:3], *([] if columns.split is None else [columns.split]))
    labels = Labels(
        path,
        words=", ".join(sheet.columns[at] for at in used),
        named=columns.named,
        candidates=tuple(sheet.columns[at] for at in columns.candidates),
    )
    for row in rows_of(sheet, columns):
        found = find(row.file)
        place, key = (labels.missing, row.file) if found is None else (labels.rows, found)
        earlier = place[key].labels if key in place else ()
        told = tuple(dict.fromkeys((*earlier, *row.labels)))
        place[key] = replace(row, labels=told, split=row.split or split)
    return labels


def _split_of_table(path: str) -> Split | None:
    """Return the split that a table is about, by its own name or its folder's."""
    *folders, name = path.casefold().split("/")
    stem = name.partition(".")[0]
    for word in (stem, *reversed(folders[-1:])):
        if word in EVERY_NAME:
            return EVERY_NAME[word]
        if (match := FAMILY.fullmatch(word)) and match[2] in EVERY_NAME:
            return EVERY_NAME[match[2]]
        first = word.partition("_")[0]
        if first in EVERY_NAME:
            return EVERY_NAME[first]
    return None


def _folders_of(index: FileIndex, split: Split) -> Iterable[str]:
    """Return the folders named like a split, as prefixes of paths."""
    found: dict[str, None] = {}
    for path in index.paths:
        prefix = ""
        for folder in path.split("/")[:-1]:
            prefix += f"{folder}/"
            if EVERY_NAME.get(folder.casefold()) is split:
                found[prefix] = None
    return found


def _birds(sheets: Mapping[str, Sheet]) -> dict[str, Sheet]:
    """Join the lists of CUB-200-2011: images, their classes and their splits by number.

    https://www.vision.caltech.edu/datasets/cub_200_2011/ (README of the archive).
    """
    for path, sheet in sheets.items():
        folder, _, name = path.rpartition("/")
        prefix = f"{folder}/" if folder else ""
        train = _pairs(sheets.get(f"{prefix}train_test_split.txt"))
        if name != "images.txt" or not train:
            continue
        images = _pairs(sheet)
        classes = _pairs(sheets.get(f"{prefix}image_class_labels.txt"))
        words = {"1": "train", "0": "test"}
        rows = [
            (file, classes.get(number, ""), words.get(train.get(number, ""), ""))
            for number, file in images.items()
        ]
        return {path: Sheet(("file", "label", "split"), rows)}
    return {}


def _pairs(sheet: Sheet | None) -> dict[str, str]:
    lines = [str(row[0]).split(None, 1) for row in sheet.rows] if sheet else []
    return {it[0]: it[1] for it in lines if len(it) > 1}


def _names(sheets: Mapping[str, Sheet]) -> dict[str, str]:
    """Return number -> name of the classes, of a list that stands beside the tables."""
    for path, sheet in sheets.items():
        stem = path.rpartition("/")[2].partition(".")[0].casefold()
        if stem in NAME_LISTS and len(sheet.columns) == 1:
            lines = [str(row[0]) for row in sheet.rows]
            numbered = _pairs(sheet)
            if len(numbered) == len(lines) and all(it.isdecimal() for it in numbered):
                return numbered
            return {str(number): line for number, line in enumerate(lines)}
    return {}


def _with_names(labels: Labels, names: Mapping[str, str]) -> Labels:
    """Put names for numbers, where a list has a name for each."""
    if not labels.classes or not labels.classes <= names.keys():
        return labels
    for place in (labels.rows, labels.missing):
        for key, row in place.items():
            place[key] = replace(row, labels=tuple(names[it] for it in row.labels))
    return labels


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]
