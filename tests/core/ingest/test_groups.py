"""Splits of images that belong together: what they cost is said."""

import pytest

from core.ingest.groups import draw
from core.ingest.manifest import examine, revise
from core.ingest.split import Ratios
from tests.core.ingest.test_manifest import LINES, line, sha
from topwork.kinds import GroupBy, Split


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
