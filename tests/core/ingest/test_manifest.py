"""Manifest lines: stable bytes, summaries, findings, and new versions over the same shards."""

import copy
import json

import pytest

from core.ingest.archive import Refusal
from core.ingest.class_names import MAX_CLASSES
from core.ingest.manifest import (
    Line,
    check,
    count,
    decode,
    encode,
    examine,
    report,
    revise,
    shapes,
    summarise,
)
from core.ingest.split import Ratios
from topwork.errors import DatasetInvalid, InvalidField, TooFewClasses


def line(number: int, name: str, split: str = "train", findings: tuple[str, ...] = ()) -> Line:
    return {
        "sha256": f"{number:064x}",
        "path": f"{name}/{number}.jpg",
        "class": name,
        "split": split,
        "width": 4,
        "height": 3,
        "shard": "f" * 64,
        "offset": 512,
        "length": 100,
        "findings": list(findings),
    }


LINES = [
    *(line(number, "cat") for number in range(6)),
    *(line(number, "dög") for number in range(10, 14)),
    line(20, "cat", "val", ("exif_rotated",)),
]


def sha(number: int) -> str:
    return f"{number:064x}"


def test_equal_content_has_equal_bytes() -> None:
    data = encode(LINES)
    assert data == encode(LINES[::-1])
    assert decode(data) == sorted(LINES, key=lambda line: line["path"])
    assert "dög".encode() in data


def test_long_images_are_found_and_counted() -> None:
    sizes = [(1000, 300), (300, 1000), (600, 300), (500, 375), (0, 0)]
    sized: list[Line] = [
        {**line(number, "cat"), "width": width, "height": height}
        for number, (width, height) in enumerate(sizes)
    ]
    assert shapes(sized) == {"largest": 548, "elongated": 2, "unseen": pytest.approx(0.7)}
    assert shapes(LINES) == {"largest": 4, "elongated": 0, "unseen": 0.0}
    edge: list[Line] = [{**LINES[0], "width": 100, "height": height} for height in (200, 201)]
    assert [shapes([one])["elongated"] for one in edge] == [0, 1]
    (found,) = [it for it in examine(sized, {}, [], {}) if it.code == "elongated"]
    assert found.where == ("cat/0.jpg", "cat/1.jpg")
    assert "70% of the image" in found.details["cat/0.jpg"]


def test_the_summary_counts_every_class_in_every_split() -> None:
    assert count(LINES) == {"train": {"cat": 6, "dög": 4}, "val": {"cat": 1, "dög": 0}}
    refusals = [Refusal("x.txt", "not_an_image"), Refusal("../x", "path_traversal")]
    summary = summarise(LINES, examine(LINES, {"exif_rotated": "Turned."}, [], {}), refusals)
    assert summary["classes"] == ["cat", "dög"]
    assert (summary["images"], summary["bytes"]) == (11, 1100)
    assert summary["skipped"] == {"not_an_image": 1}
    assert summary["rejected"] == {"path_traversal": 1}
    assert "2 classes (cat, dög) and 2 splits (train 10, val 1 images)" in summary["reading"]
    assert [(it["code"], it["examples"]) for it in summary["findings"]] == [
        ("class_missing_in_split", ["val/dög"]),
        ("exif_rotated", ["cat/20.jpg"]),
    ]


def test_the_report_names_every_file_once() -> None:
    refusals = [Refusal("b.jpg", "duplicate"), Refusal("a.jpg", "image_undecodable", "Cut off.")]
    rows = [json.loads(row) for row in report(examine(LINES, {}, [], {}), refusals).splitlines()]
    assert [(row["path"], row["status"], row["code"]) for row in rows] == [
        ("a.jpg", "rejected", "image_undecodable"),
        ("b.jpg", "skipped", "duplicate"),
        ("cat/20.jpg", "finding", "exif_rotated"),
        ("val/dög", "finding", "class_missing_in_split"),
    ]
    assert rows[0]["message"] == "Cut off."


def test_a_revision_leaves_the_old_lines_alone() -> None:
    before = copy.deepcopy(LINES)
    new = revise(LINES, exclude={sha(0)}, relabel={sha(10): "cat", sha(1): "owl"}).lines
    assert before == LINES
    assert len(new) == len(LINES) - 1
    labels = {row["sha256"]: row["class"] for row in new}
    assert (labels[sha(10)], labels[sha(1)]) == ("cat", "owl")
    assert {row["split"] for row in new} == {"train", "val"}
    assert {row["shard"] for row in new} == {"f" * 64}


def test_a_new_split_is_drawn_over_all_images() -> None:
    new = revise(LINES, split=Ratios(val=0.25, test=0.25)).lines
    assert count(new) == {
        "train": {"cat": 3, "dög": 2},
        "val": {"cat": 2, "dög": 1},
        "test": {"cat": 2, "dög": 1},
    }
    assert revise(LINES[::-1], split=Ratios(0.25, 0.25)).lines == new[::-1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"exclude": {sha(99)}}, "exclude"),
        ({"relabel": {sha(99): "cat"}}, "relabel"),
        ({"relabel": {sha(1): "a\tb"}}, "relabel"),
        ({"relabel": {sha(20): "owl"}}, "relabel"),  # A class of val only.
        ({"relabel": {sha(1): "Cat"}}, "relabel"),
        ({"relabel": {sha(1): "cat "}}, "relabel"),
    ],
)
def test_impossible_revisions_are_refused(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        revise(LINES, **change)  # type: ignore[arg-type]
    assert caught.value.param == field


def test_a_version_needs_two_classes() -> None:
    with pytest.raises(TooFewClasses, match="cat"):
        revise(LINES, relabel={sha(number): "cat" for number in range(10, 14)})
    with pytest.raises(DatasetInvalid):
        check([])


def test_a_relabelled_version_has_no_more_classes_than_an_upload() -> None:
    lines = [line(number, "cat") for number in range(MAX_CLASSES + 2)]
    names = {sha(number): f"c{number}" for number in range(MAX_CLASSES)}
    with pytest.raises(InvalidField, match="5001 classes"):
        revise(lines, relabel=names)
    names.popitem()
    assert len({one["class"] for one in revise(lines, relabel=names).lines}) == MAX_CLASSES
