"""The labels in JSON that tools for annotation write: whole images, each with its classes (pure).

COCO (https://cocodataset.org/#format-data), Datumaro as CVAT exports it, Label Studio's JSON, and
FiftyOne's FiftyOneImageClassificationDataset and FiftyOneDataset. Objects inside images are no
labels of images: an annotation with a box smaller than its image makes no row.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = ("file", "label", "split")
Row = tuple[str, list[Any], str]


def rows(value: Any) -> list[Row] | None:
    """Return (file, labels, split) of each image that a tool's JSON names; None where it is none.

    Args:
        value: Parsed JSON, of any shape.
    """
    known = (_coco, _datumaro, _label_studio, _fiftyone_labels, _fiftyone_samples)
    return next((found for it in known if (found := it(value)) is not None), None)


def _objects(value: Any, *path: str) -> list[dict[str, Any]] | None:
    """Return the list of objects at a path of keys; None where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, list):
        return None
    return [it for it in value if isinstance(it, dict)]


def _coco(value: Any) -> list[Row] | None:
    images, marks = _objects(value, "images"), _objects(value, "annotations")
    categories = _objects(value, "categories")
    if images is None or marks is None or categories is None:
        return None
    names = {_key(it.get("id")): it.get("name") for it in categories}
    sizes = {_key(it.get("id")): (it.get("width"), it.get("height")) for it in images}
    labels: dict[str, list[Any]] = defaultdict(list)
    for it in marks:
        image = _key(it.get("image_id"))
        if _is_whole(it.get("bbox"), sizes.get(image)):
            labels[image].append(names.get(_key(it.get("category_id"))))
    if marks and not labels:
        return None
    return [(str(it.get("file_name", "")), labels[_key(it.get("id"))], "") for it in images]


def _is_whole(box: Any, size: Any) -> bool:
    """Tell whether a mark is about the whole image: it has no box, an empty one or all of it."""
    if not isinstance(box, list) or not any(box):
        return True
    return size is not None and box == [0, 0, *size]


def _datumaro(value: Any) -> list[Row] | None:
    items, labels = _objects(value, "items"), _objects(value, "categories", "label", "labels")
    if items is None or labels is None:
        return None
    names = {_key(number): it.get("name") for number, it in enumerate(labels)}
    found = []
    for it in items:
        image = it.get("image")
        path = image.get("path") if isinstance(image, dict) else None
        marks = _objects(it, "annotations") or []
        told = [names.get(_key(m.get("label_id"))) for m in marks if m.get("type") == "label"]
        found.append((str(path or it.get("id", "")), told, ""))
    return found


def _label_studio(value: Any) -> list[Row] | None:
    tasks = _objects({"tasks": value}, "tasks")
    if not tasks or not all("data" in it and "annotations" in it for it in tasks):
        return None
    found = []
    for task in tasks:
        data = task["data"] if isinstance(task["data"], dict) else {}
        files = [it for it in data.values() if isinstance(it, str)]
        file = data.get("image") or (files[0] if files else "")
        kept = [it for it in _objects(task, "annotations") or [] if not it.get("was_cancelled")]
        results = [it for one in kept for it in _objects(one, "result") or []]
        found.append((str(file), _choices(results), str(data.get("split") or "")))
    return found


def _choices(results: Iterable[Mapping[str, Any]]) -> list[Any]:
    picked: list[Any] = []
    for it in results:
        value = it.get("value")
        choices = value.get("choices") if isinstance(value, dict) else None
        picked += choices if isinstance(choices, list) else []
    return picked


def _fiftyone_labels(value: Any) -> list[Row] | None:
    if not isinstance(value, dict) or not isinstance(value.get("labels"), dict):
        return None
    classes = value.get("classes")
    names = dict(enumerate(classes)) if isinstance(classes, list) else {}
    told: dict[str, Any] = value["labels"]
    return [
        (file, [names.get(it, it) if isinstance(it, int) else it], "") for file, it in told.items()
    ]


def _fiftyone_samples(value: Any) -> list[Row] | None:
    samples = _objects(value, "samples")
    if not samples or not all("filepath" in it for it in samples):
        return None
    found = []
    for sample in samples:
        marks = [it for it in sample.values() if isinstance(it, dict) and "label" in it]
        truth = sample.get("ground_truth")
        marks = [truth] if isinstance(truth, dict) and "label" in truth else marks
        tags = sample.get("tags")
        tag = next((it for it in tags if isinstance(it, str)), "") if isinstance(tags, list) else ""
        found.append((str(sample["filepath"]), [it["label"] for it in marks], tag))
    return found


def _key(value: Any) -> str:
    return str(value)
