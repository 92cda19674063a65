"""Decide what an upload means: by its folders, or by tables that lie beside the images (pure).

Folders that name two classes or more are believed as long as no table contradicts them; a table
that says the same gives its splits. Where folders name no classes, a table does. Where both speak
and disagree, or several tables or columns could name the class, it is a question.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from core.ingest.archive import Plan, Refusal
from core.ingest.layout import Reading
from core.ingest.layout_options import MOST_OPTIONS, read_or_ask
from core.ingest.lost_classes import meant_paths
from core.ingest.split_folders import NO_ANSWER, LayoutAnswer, counted, some
from core.ingest.tables.file_index import FileIndex
from core.ingest.tables.gather import Tables
from core.ingest.tables.labels import Labels, read_tables, values_of
from core.ingest.tables.table_layout import apply_splits, merged, read_by_tables
from topwork.errors import LayoutAmbiguous, LayoutMismatch

FOLDERS = "folders"
LEAST_SINGLE = 0.5  # Of a table's rows, with one class each; else it tells other facts of images.
TWO = 2


def read_upload(
    planned: Plan,
    answer: LayoutAnswer = NO_ANSWER,
    tables: Tables | None = None,
    group_column: str | None = None,
) -> Reading:
    """Read the layout from all paths that tell what the user meant, and from the tables.

    Args:
        planned: The upload's files, those that are refused included.
        answer: What the request says.
        tables: Of the upload; left out where there are none.
        group_column: The column that says which images belong together.

    Raises:
        LayoutAmbiguous, LayoutMismatch, DatasetInvalid: As `read_layout` does.
    """
    tables = tables or Tables()
    files, folders, images = meant_paths(planned)
    labels: list[Labels] = []
    if tables.sheets and list(answer.labels) != [FOLDERS]:
        labels = read_tables(tables.sheets, FileIndex([*files, *images]), answer.label_column)
    upload = _Upload(tables, labels, files, folders, images, answer)
    reading = upload.read()
    if group_column is not None:
        index = FileIndex([*files, *images])
        reading.groups = values_of(tables.sheets, index, group_column)
    reading.broken = {it: why for it, why in tables.broken.items() if it not in reading.tables}
    unused = [path for path, _ in planned.tables.values() if path not in reading.tables]
    reading.refusals += [Refusal(path, "not_an_image") for path in unused]
    return reading


class _Upload:
    def __init__(
        self,
        tables: Tables,
        labels: list[Labels],
        files: list[str],
        folders: list[str],
        images: list[str],
        answer: LayoutAnswer,
    ) -> None:
        self._tables = tables
        self._all = labels
        self._files, self._folders, self._images = files, folders, images
        self._answer = answer

    def read(self) -> Reading:
        """Return the reading, or raise the question."""
        answer = self._answer
        if answer.labels and list(answer.labels) != [FOLDERS]:
            return self._by_tables(self._named_tables(answer.labels))
        speaking = [it for it in self._all if it.classes or it.candidates]
        if answer.classes is not None:
            speaking = []
        try:
            reading = read_or_ask(self._files, self._folders, self._images, answer)
        except (LayoutAmbiguous, LayoutMismatch):
            if not speaking:
                raise
            return self._by_tables(speaking)
        classes = {place.class_name for place in reading.places.values()}
        if len(classes) < TWO and speaking:
            return self._by_tables(speaking)
        speaking = [it for it in speaking if it.named and _labels_images(it)]
        if contrary := [it for it in speaking if not _agrees(reading, it)]:
            told = counted(classes, "class", "classes")
            raise self._question(
                f"The folders name {told}, and the table {contrary[0].table} gives the images other"
                " classes.",
                [{"value": {"labels": [FOLDERS]}, "meaning": told}, *map(_option, contrary)],
            )
        lists = [it for it in self._all if any(row.split for row in it.rows.values())]
        lists = [it for it in lists if it in speaking or not it.classes]
        if lists and not reading.splits:
            apply_splits(reading, lists)
        return reading

    def _named_tables(self, paths: Iterable[str]) -> list[Labels]:
        known = {it.table: it for it in self._all}
        for path in paths:
            if path not in known:
                reason = self._tables.broken.get(path)
                why = f"cannot be read: {reason}" if reason else "names no images of the upload"
                have = some(known) or "none"
                message = f"the table {path!r} {why}; tables that do: {have}"
                raise LayoutMismatch(message, param="layout.labels")
        chosen = [known[path] for path in paths]
        if not any(it.classes or it.candidates for it in chosen):
            message = f"the table {chosen[0].table!r} has no such column of classes"
            raise LayoutMismatch(message, param="layout.label_column")
        return chosen

    def _by_tables(self, tables: list[Labels]) -> Reading:
        """Read by tables that are to name the classes.

        Raises:
            LayoutAmbiguous: It is open which of their columns does, or which of them.
        """
        clear = [it for it in tables if it.classes]
        if not clear:
            open_table = tables[0]
            raise self._question(
                f"The table {open_table.table} names images, and not which of its columns"
                f" ({some(open_table.candidates)}) is their class.",
                [*self._column_options(open_table)],
            )
        sure = [it for it in clear if it.named]
        clear = sure or clear
        rows = merged(it.rows for it in clear)
        alone = sum(len(row.labels) > 1 for it in clear for row in it.rows.values())
        if sum(len(row.labels) > 1 for row in rows.values()) > alone:
            told = some([it.table for it in clear])
            message = f"The tables {told} give the same images different classes."
            raise self._question(message, [_option(it) for it in clear])
        lists = [it for it in self._all if not it.classes and not it.candidates]
        reading = read_by_tables(clear, self._files, self._images, self._answer)
        if lists and not reading.splits:
            apply_splits(reading, lists)
        return reading

    def _column_options(self, table: Labels) -> Iterable[dict[str, Any]]:
        index = FileIndex([*self._files, *self._images])
        sheets = {table.table: self._tables.sheets[table.table]}
        for column in table.candidates[:MOST_OPTIONS]:
            (found,) = read_tables(sheets, index, column)
            yield {**_option(found), "value": {"labels": [table.table], "label_column": column}}

    def _question(self, message: str, options: Sequence[dict[str, Any]]) -> LayoutAmbiguous:
        hint = "Say in `layout` which it is."
        question = LayoutAmbiguous(message, param="layout", hint=hint)
        question.options = list(options[:MOST_OPTIONS])
        return question


def _option(labels: Labels) -> dict[str, Any]:
    meaning = f"{counted(labels.classes, 'class', 'classes')}, from {labels.table}"
    return {"value": {"labels": [labels.table]}, "meaning": meaning}


def _labels_images(labels: Labels) -> bool:
    """Tell whether a table gives classes to images; else it may tell any other facts of them."""
    single = sum(len(row.labels) == 1 for row in labels.rows.values())
    return single >= LEAST_SINGLE * len(labels.rows)


def _agrees(reading: Reading, labels: Labels) -> bool:
    """Tell whether a table says the same as the folders, perhaps in other words."""
    pairs = {
        (reading.places[path].class_name, row.labels[0])
        for path, row in labels.rows.items()
        if path in reading.places and len(row.labels) == 1
    }
    folders, labelled = {one for one, _ in pairs}, {other for _, other in pairs}
    return len(pairs) == len(folders) == len(labelled)
