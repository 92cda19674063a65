"""Splits of images that belong together: what they cost is said."""

import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from pydantic import ValidationError

from core.ingest.archive import Limits
from core.ingest.dry_run import summarise
from core.ingest.groups import draw
from core.ingest.manifest import Line, examine, revise
from core.ingest.split import Ratios
from tests.archives import folder, picture, zip_of
from tests.core.ingest.test_manifest import LINES, line, sha
from tests.core.ingested import Ingest
from topwork.errors import InvalidField
from topwork.kinds import GroupBy, Split
from topwork.types.group_pattern import checked, group_in
from topwork.types.training import SplitShares


def test_a_share_that_groups_leave_empty_is_told_with_the_version() -> None:
    revised = revise(LINES, split=Ratios(val=0.2, test=0.1, group_by=GroupBy.FOLDER))
    assert {it["split"] for it in revised.lines} == {"train"}
    (found, *_) = (it for it in examine([], {}, [], revised.missed))
    assert (found.code, found.where) == ("split_share_missed", ("val", "test"))
    assert found.details["val"] == (
        "val has 0 of 11 images where 2 were asked for, because groups (folder) are not divided."
    )


def test_a_burst_that_fills_the_validation_set_is_told() -> None:
    burst = [[sha(number) for number in range(10)]]
    cats = [line(number, "cat") for number in range(11)]
    assert draw(cats, Ratios(val=0.1), burst)[1] == {}  # The eleventh, which is no part of it.
    places, missed = draw(cats, Ratios(val=0.5), burst)
    assert list(places.values()).count(Split.VAL) == 1
    assert missed["val"].startswith("val has 1 of 11 images where 6 were asked for")
    places, missed = draw([*cats, line(20, "dog")], Ratios(val=0.1), [[*burst[0], sha(20)]])
    assert missed == {}


@pytest.mark.parametrize("ratios", [Ratios(), Ratios(val=0), Ratios(val=0.9), Ratios(0.3, 0.3)])
def test_what_is_not_grouped_misses_no_share(ratios: Ratios) -> None:
    for images in range(1, 12):
        lines = [line(number, "cat") for number in range(images)]
        assert draw(lines, ratios, [])[1] == {}


def scan(patient: int, number: int) -> Line:
    found = line(20 * patient + number, "cat" if patient % 2 else "dog")
    return {**found, "path": f"scans/{found['class']}/patient_{patient:02}-{number}.png"}


SCANS = [scan(patient, number) for patient in range(8) for number in range(5)]


def patients_of(split: str, lines: list[Line], places: dict[str, Split]) -> set[str]:
    return {it["path"].split("patient_")[1][:2] for it in lines if places[it["sha256"]] == split}


@pytest.mark.parametrize("pattern", [r"patient_(\d+)", r"(cat|dog)/patient_(?P<who>\d{2})-"])
def test_what_a_pattern_finds_stays_on_one_side(pattern: str) -> None:
    ratios = Ratios(val=0.25, group_by=GroupBy.PATTERN, group_pattern=pattern)
    places, missed = draw(SCANS, ratios, [])
    train, val = (patients_of(it, SCANS, places) for it in ("train", "val"))
    assert (len(train), len(val), missed) == (6, 2, {})
    assert not train & val
    mixed = draw(SCANS, Ratios(val=0.25, group_by=GroupBy.NONE), [])[0]
    assert patients_of("train", SCANS, mixed) & patients_of("val", SCANS, mixed)


def test_images_without_the_pattern_stand_alone_and_a_pattern_in_no_path_is_an_error() -> None:
    ratios = Ratios(val=0.5, group_by=GroupBy.PATTERN, group_pattern="patient_(00)")
    places, _ = draw(SCANS, ratios, [])
    assert len({places[it["sha256"]] for it in SCANS if "patient_00" in it["path"]}) == 1
    assert len({places[it["sha256"]] for it in SCANS if "patient_02" in it["path"]}) == 2
    with pytest.raises(InvalidField, match=r"in no path, as in 'scans/cat/patient_01-0\.png'"):
        draw(SCANS, replace(ratios, group_pattern="subject(.)"), [])


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b", r"(a|a)*b", r"(.*)(.*)(.*)x", r"(a?a?a?a?)b", r"(a{1,9}){1,9}", r"((a{9}){9})",
        r"(?=a)(b)", r"(a)\1", r"(?P<x>a)(?P=x)", r"(?i)(a)", r"(?>a)(b)", r"(a)(?#x)",
        r"(.*)(.+)x", r".*(\w+)x", r"^a|(.*).*x",
        r"(a{100})", "a", "(a", "a)", "[a(", "(" * 101 + ")" * 101, r"(a\Z)", "(a||||b)", "(*)",
    ],
)  # fmt: skip
def test_patterns_that_could_take_long_or_mean_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        checked(pattern)
    with pytest.raises(ValidationError):
        SplitShares(group_by=GroupBy.PATTERN, group_pattern=pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(.*)(.+)x", r"^(.*)a?a?a?.+x", r"([^/]+)a?a?a?x", r"^(\w{3})-?", r"([]a-z]*)_(?:x|y)\.",
        r"(\[\d\])",
    ],
)  # fmt: skip
def test_patterns_that_are_taken_are_quick(pattern: str) -> None:
    found = checked(pattern)
    for path in ("a" * 512, "a/" * 256, "-" * 512):
        began = time.process_time()
        group_in(found, path)
        assert time.process_time() - began < 0.15  # Cubes of the length take longer.


def test_pattern_and_column_come_with_their_word() -> None:
    for wrong in (
        {"group_by": "pattern"},
        {"group_by": "column"},
        {"group_pattern": "(a)"},
        {"group_by": "folder", "group_column": "patient"},
    ):
        with pytest.raises(ValidationError, match="given together"):
            SplitShares.model_validate(wrong)


def test_a_column_of_the_table_keeps_images_together(run: Ingest) -> None:
    rows = [(f"{n}.png", ("cat", "dog")[n % 2], f"farm {n % 8}") for n in range(32)]
    table = "file,label,farm\n" + "".join(",".join(row) + "\n" for row in rows)
    pictures = {f"images/{n}.png": picture(n) for n in range(32)}
    data = zip_of({**pictures, "labels.csv": table.encode()})
    split = {"val": 0.25, "group_by": "column", "group_column": "farm"}
    done = run(data, split)
    farms = {
        it: {line["group"][1] for line in done.manifest if line["split"] == it}
        for it in ("train", "val")
    }
    assert farms["train"] | farms["val"] == {f"farm {n}" for n in range(8)}
    assert farms["val"]
    assert not farms["train"] & farms["val"]
    assert {line["group"][0] for line in done.manifest} == {"farm"}
    found = cast("list[Line]", done.manifest)
    again = Ratios(val=0.25, seed=5, group_by=GroupBy.COLUMN, group_column="farm")
    lines = revise(found, split=again).lines
    assert {it["group"][1] for it in lines if it["split"] == "val"}.isdisjoint(
        it["group"][1] for it in lines if it["split"] == "train"
    )
    with pytest.raises(
        InvalidField, match="no table that names images was read with a column 'zoo'"
    ):
        revise(found, split=replace(again, group_column="zoo"))


def test_a_dry_run_says_that_the_column_is_not_there(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of(folder("cat", "dog")))
    with pytest.raises(InvalidField, match="'patient'") as caught:
        summarise(archive, Limits(), Ratios(group_by=GroupBy.COLUMN, group_column="patient"))
    assert caught.value.param == "split.group_column"
