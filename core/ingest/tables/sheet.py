"""Text that lies beside images, as rows and columns: CSV, TSV, JSON, JSON lines, lists (pure).

The bytes are a stranger's: they are bounded in size, rows, columns and objects before a parser
holds them. Only what `json` and `csv` can make is ever built from them.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from core.ingest.archive import MEBIBYTE
from core.ingest.tables import annotations, cvat

MAX_BYTES = 64 * MEBIBYTE
MAX_ROWS = 1_000_000
MAX_COLUMNS = 6000  # One for each class of a one-hot table, and some more.
MAX_CELLS = 10_000_000  # Of all rows; an empty one takes eight bytes of memory.
MAX_OBJECTS = 2_000_000  # Of JSON or XML; each takes some hundred bytes of memory.
MAX_DEPTH = 50  # Of JSON; whatever walks through a value may then call itself.
SAMPLE = 200
DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows of equal columns; a cell is a text, a number or, of JSON, anything."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


def parse(path: str, data: bytes) -> Sheet | None:
    """Return what a file says as a sheet; None where it is no table.

    A file without column names, such as a list, has columns that are called "1", "2", and so on.

    Raises:
        ValueError: It is meant to be a table and is broken, or larger than is read here.
    """
    text = _decoded(data)
    kind = path.lower().rpartition(".")[2]
    if kind == "xml":
        _check_most(text.count("<"), MAX_OBJECTS, "elements")
        return _made(cvat.rows(data))
    if kind in {"jsonl", "ndjson"}:
        _check_json(text)
        return _records([_json(line) for line in _lines(text) if line.strip()])
    if kind == "json":
        _check_json(text)
        return _from_json(_json(text))
    return delimited(text) if kind in {"csv", "tsv"} else _list(text)


def _check_most(count: int, most: int, things: str) -> None:
    if count > most:
        message = f"it has more than {most} {things}"
        raise ValueError(message)


def _decoded(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        message = "it is not UTF-8"
        raise ValueError(message) from None


def _lines(text: str) -> list[str]:
    # Not `splitlines`, which also ends lines at characters that names may hold.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _check_most(text.count("\n"), MAX_ROWS, "rows")
    return text.split("\n")


def _check_json(text: str) -> None:
    """Bound what a parser would build: every value but the first of each object has a comma."""
    _check_most(text.count("{") + text.count("["), MAX_OBJECTS, "objects")
    _check_most(text.count(","), MAX_CELLS, "values")


def _json(text: str) -> Any:
    message = "it is nested too deep"
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(message) from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [below for it in level for below in _inside(it)]
        if not level:
            return value
    raise ValueError(message)


def _inside(value: Any) -> Iterator[Any]:
    """Yield the lists and objects directly in a value."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (it for it in items if isinstance(it, (dict, list)))


def _from_json(value: Any) -> Sheet | None:
    rows = annotations.rows(value)
    if rows is not None:
        return _made(rows)
    if isinstance(value, dict):
        inner = [it for it in value.values() if _is_records(it)]
        if len(inner) == 1:
            return _records(inner[0])
        if value and all(isinstance(it, dict) for it in value.values()):
            return _records([{**it, "": name} for name, it in value.items()])
        _check_most(len(value), MAX_ROWS, "rows")
        return Sheet(("1", "2"), list(value.items()))
    return _records(value) if _is_records(value) else None


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(it, dict) for it in value)


def _made(rows: list[annotations.Row] | None) -> Sheet | None:
    if rows is None:
        return None
    return Sheet(annotations.COLUMNS, rows)


def _records(records: list[dict[str, Any]]) -> Sheet | None:
    if not _is_records(records):
        return None
    columns: dict[str, None] = {}
    for it in records[:SAMPLE]:
        columns |= dict.fromkeys(it)
        if len(columns) > MAX_COLUMNS:
            return None
    _check_most(len(records), MAX_ROWS, "rows")
    _check_most(len(columns) * len(records), MAX_CELLS, "cells")
    return Sheet(tuple(columns), [[it.get(name) for name in columns] for it in records])


def delimited(text: str) -> Sheet | None:
    """Return rows of cells between the delimiter that is most frequent.

    Raises:
        ValueError: A cell is longer than any name, or there are too many cells or rows.
    """
    # Before any row is read: a line of delimiters alone would be as many cells.
    _check_most(max(map(text.count, DELIMITERS)), MAX_CELLS, "cells")
    lines = _lines(text)
    head = lines[:SAMPLE]
    try:
        delimiter = max(DELIMITERS, key=lambda it: (_even(head, it), lines[0].count(it), it == ","))
        rows = [[cell.strip() for cell in row] for row in _reader(lines, delimiter) if any(row)]
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return _headed(rows)


def _reader(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    rows = (f"{line}\n" for line in lines)
    return csv.reader(rows, delimiter=delimiter, skipinitialspace=True)


def _even(lines: Iterable[str], delimiter: str) -> bool:
    """Tell whether lines have the same number of cells, two at least."""
    widths = {len(row) for row in _reader(lines, delimiter) if any(row)}
    return len(widths) == 1 and widths != {1}


def _headed(rows: list[list[str]]) -> Sheet | None:
    """Return rows with numbered columns; those of another length are filled or cut."""
    width = len(rows[0]) if rows else 0
    if not 0 < width <= MAX_COLUMNS:
        return None
    _check_most(width * len(rows), MAX_CELLS, "cells")
    names = tuple(str(number) for number in range(1, width + 1))
    return Sheet(names, [[*row[:width], *[""] * (width - len(row))] for row in rows])


def _list(text: str) -> Sheet | None:
    lines = [line.strip() for line in _lines(text)]
    return Sheet(("1",), [[line] for line in lines if line])
