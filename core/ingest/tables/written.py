"""Write the classes and splits of a version in the forms that are read here (pure)."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from core.ingest.archive import MAX_SEGMENT_BYTES, SYSTEM_FOLDERS
from topwork.errors import InvalidField
from topwork.kinds import ExportForm, Split


class Labelled(NamedTuple):
    """One image of an export: its path in the archive, class and split."""

    file: str
    class_name: str
    split: str


def check_classes(form: ExportForm, classes: Collection[str]) -> None:
    """Refuse a form that would lose the name of a class.

    Raises:
        InvalidField: A class cannot be a folder, or begins or ends with spaces in a table.
    """
    folders = form is ExportForm.FOLDERS
    for name in sorted(classes):
        lost = name != name.strip()
        if folders:
            lost = name.startswith(".") or name.casefold() in SYSTEM_FOLDERS
            lost = lost or bool({"/", "\\"} & set(name)) or len(name.encode()) > MAX_SEGMENT_BYTES
        if lost:
            other = ExportForm.CSV if folders else ExportForm.FOLDERS
            message = f"the class {name!r} cannot be named in the form {form}"
            raise InvalidField(message, param="as", hint=f"`as={other}` can.")


def path_of(form: ExportForm, name: str, class_name: str, split: str) -> str:
    """Return where an image lies in the archive, by the name of its file."""
    if form is ExportForm.FOLDERS:
        return f"{split}/{class_name}/{name}"
    return f"images/{name}"


def tables_of(form: ExportForm, rows: Collection[Labelled]) -> dict[str, str]:
    """Return the tables that stand beside the images: path -> content."""
    return _WRITERS[form](rows)


def _folders(_: Iterable[Labelled]) -> dict[str, str]:
    return {}


def _csv(rows: Iterable[Labelled]) -> dict[str, str]:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("file", "label", "split"))
    writer.writerows(rows)
    return {"labels.csv": out.getvalue()}


def _imagefolder(rows: Iterable[Labelled]) -> dict[str, str]:
    lines = (
        {"file_name": it.file.removeprefix("images/"), "label": it.class_name, "split": it.split}
        for it in rows
    )
    return {"images/metadata.jsonl": "".join(f"{_json(line)}\n" for line in lines)}


def _coco(rows: Collection[Labelled]) -> dict[str, str]:
    numbers = {name: n for n, name in enumerate(sorted({it.class_name for it in rows}), 1)}
    names = [{"id": number, "name": name} for name, number in numbers.items()]
    parts: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        parts[row.split].append(row)
    return {
        f"annotations/{split}.json": _json(
            {
                "images": [{"id": n, "file_name": it.file} for n, it in enumerate(part, 1)],
                "annotations": [
                    {"id": n, "image_id": n, "category_id": numbers[it.class_name]}
                    for n, it in enumerate(part, 1)
                ],
                "categories": names,
            }
        )
        for split in Split
        if (part := parts[split])
    }


def _label_studio(rows: Iterable[Labelled]) -> dict[str, str]:
    def result(class_name: str) -> dict[str, Any]:
        names = {"from_name": "choice", "to_name": "image", "type": "choices"}
        return {**names, "value": {"choices": [class_name]}}

    tasks = [
        {
            "data": {"image": it.file, "split": it.split},
            "annotations": [{"result": [result(it.class_name)]}],
        }
        for it in rows
    ]
    return {"tasks.json": _json(tasks)}


def _fiftyone(rows: Iterable[Labelled]) -> dict[str, str]:
    samples = [
        {"filepath": it.file, "tags": [it.split], "ground_truth": {"label": it.class_name}}
        for it in rows
    ]
    return {"samples.json": _json({"samples": samples})}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_WRITERS: Mapping[ExportForm, Callable[[Collection[Labelled]], dict[str, str]]] = {
    ExportForm.FOLDERS: _folders,
    ExportForm.CSV: _csv,
    ExportForm.IMAGEFOLDER: _imagefolder,
    ExportForm.COCO: _coco,
    ExportForm.LABEL_STUDIO: _label_studio,
    ExportForm.FIFTYONE: _fiftyone,
}
