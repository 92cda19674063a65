"""Labels as tools for annotation write them, beside images, are read as classes and splits."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core.ingest.archive import Limits
from core.ingest.dry_run import summarise
from core.ingest.split import Ratios
from tests.archives import picture, zip_of

IMAGES = {f"images/{number}.png": picture(number) for number in range(8)}
NAMES = [f"{number}.png" for number in range(8)]
CLASSES = ["cat", "dog"] * 4
PAIRS = list(zip(NAMES, CLASSES, strict=True))
IDS = {"cat": 0, "dog": 1}
FLAGS = {"cat": ("1.0", "0.0"), "dog": ("0.0", "1.0")}


def look(folder: Path, files: dict[str, bytes | str], layout: Any = None) -> dict[str, Any]:
    path = folder / "upload.zip"
    path.write_bytes(zip_of({k: v.encode() if isinstance(v, str) else v for k, v in files.items()}))
    return summarise(path, Limits(), Ratios(), {"layout": layout} if layout else {})


def table(head: str, rows: Sequence[tuple[str, ...]], between: str = ",") -> str:
    return "\n".join([head, *(between.join(row) for row in rows)])


def coco(boxes: list[Any]) -> str:
    images = [{"id": n, "file_name": file, "width": 8, "height": 8} for n, file in enumerate(NAMES)]
    marks = [
        {"image_id": n, "category_id": IDS[label], "bbox": box}
        for n, (label, box) in enumerate(zip(CLASSES, boxes, strict=True))
    ]
    names = [{"id": number, "name": name} for name, number in IDS.items()]
    return json.dumps({"images": images, "annotations": marks, "categories": names})


def label_studio() -> str:
    def task(file: str, label: str) -> dict[str, Any]:
        result = [{"type": "choices", "value": {"choices": [label]}}]
        cancelled = {"result": [{"value": {"choices": ["owl"]}}], "was_cancelled": True}
        data = {"image": f"/data/upload/3/0a1b2c3d-{file}"}
        return {"data": data, "annotations": [{"result": result}, cancelled]}

    return json.dumps([task(*pair) for pair in PAIRS])


def datumaro() -> str:
    items = [
        {
            "id": file[:-4],
            "annotations": [{"type": "label", "label_id": IDS[label]}],
            "image": {"path": file},
        }
        for file, label in PAIRS
    ]
    labels = {"labels": [{"name": "cat"}, {"name": "dog"}]}
    return json.dumps({"info": {}, "categories": {"label": labels}, "items": items})


def fiftyone() -> str:
    labels = {file[:-4]: IDS[label] for file, label in PAIRS}
    return json.dumps({"classes": ["cat", "dog"], "labels": labels})


def samples() -> str:
    rows = [{"filepath": f"data/{f}", "ground_truth": {"label": c}} for f, c in PAIRS]
    return json.dumps({"samples": rows})


def cvat() -> str:
    rows = (f'<image name="{f}"><tag label="{c}"/></image>' for f, c in PAIRS)
    return f"<?xml version='1.0'?><annotations><version>1.1</version>{''.join(rows)}</annotations>"


def records() -> list[dict[str, str]]:
    return [{"file_name": f, "label": c} for f, c in PAIRS]


FORMS = {
    "csv": ("labels.csv", table("filename,label", PAIRS)),
    "csv of Excel": ("labels.csv", "\ufeff" + table("Dateiname;Klasse", PAIRS, ";")),
    "no header": ("list.csv", table("0.png,cat", PAIRS[1:])),
    "tsv, no suffixes": ("l.tsv", table("id\tbreed", [(f[:-4], c) for f, c in PAIRS], "\t")),
    "other machine": (
        "a.csv",
        table("path,label", [(rf"C:\data\pets\{f}", c) for f, c in PAIRS]),
    ),
    "urls": ("a.csv", table("url,label", [(f"s3://bucket/x%20y/{f}?v=1", c) for f, c in PAIRS])),
    "one-hot": ("t.csv", table("image,cat,dog", [(f, *FLAGS[c]) for f, c in PAIRS])),
    "names for numbers": (
        "a.csv",
        table("image,label,label_id", [(f, c, str(IDS[c])) for f, c in PAIRS]),
    ),
    "words": ("labels.txt", "\n".join(f"images/{f} {c}" for f, c in PAIRS)),
    "jsonl of imagefolder": ("images/metadata.jsonl", "\n".join(map(json.dumps, records()))),
    "csv of imagefolder": ("images/metadata.csv", table("file_name,label", PAIRS)),
    "json records": ("labels.json", json.dumps(records())),
    "json object": ("labels.json", json.dumps(dict(PAIRS))),
    "COCO": ("annotations/train.json", coco([[]] * 8)),
    "COCO of whole images": ("_annotations.coco.json", coco([[0, 0, 8, 8]] * 8)),
    "Label Studio": ("project-1.json", label_studio()),
    "Label Studio, small": (
        "p.json",
        json.dumps([{"image": f"/data/local-files/?d=x/{f}", "choice": c} for f, c in PAIRS]),
    ),
    "CVAT": ("annotations.xml", cvat()),
    "Datumaro": ("annotations/default.json", datumaro()),
    "FiftyOne labels": ("labels.json", fiftyone()),
    "FiftyOne samples": ("samples.json", samples()),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_classes(tmp_path: Path, form: str) -> None:
    name, content = FORMS[form]
    seen = look(tmp_path, IMAGES | {name: content, "readme.txt": "Pets of the town."})
    assert seen["counts"] == {"train": {"cat": 3, "dog": 3}, "val": {"cat": 1, "dog": 1}}
    assert (seen["skipped"], seen["rejected"]) == ({"not_an_image": 1}, {})
    (found,) = seen["findings"]
    assert (found["code"], found["examples"]) == ("labels_from_table", [name])


def test_objects_in_images_are_no_labels_of_images(tmp_path: Path) -> None:
    boxes = coco([[1, 1, 3, 3]] * 8)
    files = {f"{c}/{f}": IMAGES[f"images/{f}"] for f, c in PAIRS} | {"instances.json": boxes}
    assert look(tmp_path, files)["skipped"] == {"not_an_image": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[" * 100_000),
        ("a.json", "[" + "{}," * 2_100_000 + "{}]"),
        ("a.json", '{"images": 3}, '),
        ("a.csv", b"\xff\xfe\x00"),
        ("a.csv", "x" * 200_000 + ",cat"),
        ("a.csv", "b,c\n" * 1_000_001),
        ("a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>"),
        ("a.xml", "<annotations><image name='0.png'>"),
        ("a.xml", "<a>" * 1000),
        ("a.jsonl", "\x00"),
        ("labels.json", json.dumps(dict(PAIRS))[:-1] + ', "x": ' + "[" * 600 + "]" * 600 + "}"),
        ("a.csv", "x" + "," * 5000 + "\n" + "b\n" * 2001),
        ("a.csv", "file,label\n" + "," * 10_000_001),
        ("a.csv", "b,c\r" * 1_000_001),
        ("a.json", json.dumps([{str(n): n for n in range(5000)}] + [{"0": 0}] * 2001)),
        ("a.json", "[" + "1," * 10_000_001 + "1]"),
        ("a.json", "{" + ",".join(f'"{n}":1' for n in range(1_000_001)) + "}"),
        ("a.jsonl", "[[],[]]\n" * 700_000),
        ("a.xml", "<annotations>" + "<a/>" * 2_000_000 + "</annotations>"),
    ],
    ids=[
        "deep",
        "objects",
        "junk",
        "UTF-16",
        "cell",
        "rows",
        "document type",
        "cut off",
        "nested",
        "nul",
        "label nested",
        "wide first row",
        "cells of one row",
        "rows of old Macs",
        "wide first record",
        "values",
        "pairs",
        "objects of lines",
        "elements",
    ],
)
def test_a_hostile_table_costs_little_and_is_told(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    files = {f"{c}/{f}": IMAGES[f"images/{f}"] for f, c in PAIRS} | {name: content}
    seen = look(tmp_path, files)
    assert seen["skipped"] == {"not_an_image": 1}
    assert [it["code"] for it in seen["findings"]] == ["table_unreadable"]


def test_a_text_with_a_long_line_is_no_table(tmp_path: Path) -> None:
    files = {f"{c}/{f}": IMAGES[f"images/{f}"] for f, c in PAIRS}
    seen = look(tmp_path, files | {"licence.txt": "x" * 140_000 + "\n" + "y, z\n" * 3})
    assert (seen["skipped"], seen["findings"]) == ({"not_an_image": 1}, [])
