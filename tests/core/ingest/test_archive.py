"""The plan over a list of members, and what makes a name unsafe."""

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ingest.archive import REJECTED, SKIPPED, Limits, Member, Refusal, clean, plan
from topwork.errors import ArchiveTooLarge

MEBIBYTE = 1024 * 1024


def refusal(*members: Member, limits: Limits | None = None) -> list[tuple[str, str]]:
    planned = plan(members, limits or Limits())
    return [(refused.path, refused.code) for refused in planned.refusals]


def image(name: str, size: int = 10) -> Member:
    return Member(name, size=size)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../x.jpg", "path_traversal"),
        ("a/../../x.jpg", "path_traversal"),
        ("..\\x.jpg", "path_traversal"),
        ("a\\..\\x.jpg", "path_traversal"),
        ("/etc/x.jpg", "path_absolute"),
        ("\\x.jpg", "path_absolute"),
        ("C:\\x.jpg", "path_drive"),
        ("c:x.jpg", "path_drive"),
        ("a/b\0.jpg", "name_nul"),
        ("a/\udcff.jpg", "name_not_utf8"),
        ("a/" + "x" * 300 + ".jpg", "path_too_long"),
        ("/".join(["x" * 100] * 6) + ".jpg", "path_too_long"),
        ("a/" * 500 + "x.jpg", "path_too_long"),
    ],
)
def test_unsafe_names_are_rejected(name: str, code: str) -> None:
    ((path, found),) = refusal(image(name))
    assert found == code
    path.encode()  # Any report can hold it.
    assert Refusal(path, found).status == "rejected"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("./a//b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("a/" * 6 + "b.jpg", "a/" * 6 + "b.jpg"),
        ("a/..b..jpg", "a/..b..jpg"),
        ("cafe\u0301/b.jpg", "caf\u00e9/b.jpg"),
    ],
)
def test_safe_names_come_clean(name: str, path: str) -> None:
    assert clean(name) == (path, None)


@settings(deadline=None, database=None)
@given(st.text(max_size=40))
def test_whatever_passes_stays_inside(name: str) -> None:
    path, code = clean(name)
    path.encode()
    if code is None:
        assert not path.startswith("/")
        assert "\\" not in path
        assert not {"..", "."} & set(path.split("/"))
        assert unicodedata.is_normalized("NFC", path)
        assert clean(path) == (path, None)


@pytest.mark.parametrize(
    ("member", "code"),
    [
        (Member("a/x.jpg", kind="link"), "link"),
        (Member("a/x.jpg", kind="special"), "special_file"),
        (Member("a/x.jpg", 5, flaw="encrypted"), "encrypted"),
        (Member("a/x.jpg", 5, flaw="entries_overlap"), "entries_overlap"),
        (Member("a/x.jpg", 51 * MEBIBYTE), "entry_too_large"),
        (Member("__MACOSX/a/._x.jpg", 5), "system_file"),
        (Member("a/.DS_Store", 5), "system_file"),
        (Member(".ipynb_checkpoints/x.jpg", 5), "system_file"),
        (Member("a/Thumbs.db", 5), "system_file"),
        (Member("a/desktop.ini", 5), "system_file"),
        (Member("a/b.zip", 5, content="archive"), "nested_archive"),
        (Member("a/b", 5, content="archive"), "nested_archive"),
        (Member("a/readme.rst", 5, content="other"), "not_an_image"),
        (Member("a/x.jpg", 0), "empty_file"),
    ],
)
def test_members_are_refused_with_a_reason(member: Member, code: str) -> None:
    assert [found for _, found in refusal(member)] == [code]


@pytest.mark.parametrize(
    ("name", "size", "told"), [("a/x.csv", 5, True), ("a/README.TXT", 5, True), ("x.csv", 0, False)]
)
def test_what_may_be_a_table_is_left_to_those_who_can_read_it(
    name: str, size: int, *, told: bool
) -> None:
    planned = plan([Member(name, size, content="other")], Limits())
    assert planned.tables == ({0: (name, size)} if told else {})
    assert [it.code for it in planned.refusals] == ([] if told else ["empty_file"])


def test_names_may_lack_a_suffix() -> None:
    planned = plan([Member("a/x", MEBIBYTE, content="image"), image("a/Y.JPEG")], Limits())
    assert planned.files == {0: "a/x", 1: "a/Y.JPEG"}
    assert not planned.refusals


def test_of_clashing_names_the_first_is_used() -> None:
    names = ["a/x.jpg", "a/x.jpg", "./a/x.jpg", "A/X.jpg", "a/e\u0301.jpg", "a/\u00e9.jpg"]
    planned = plan([image(name) for name in names], Limits())
    assert planned.files == {0: "a/x.jpg", 4: "a/\u00e9.jpg"}
    assert [refused.code for refused in planned.refusals] == [
        "name_duplicate",
        "name_duplicate",
        "name_case_clash",
        "name_unicode_clash",
    ]


def test_folders_are_kept_for_the_layout() -> None:
    planned = plan([Member("a/", kind="folder"), Member("../b", kind="folder")], Limits())
    assert planned.folders == ["a"]
    assert [refused.code for refused in planned.refusals] == ["path_traversal"]


def test_too_many_members_end_the_plan_at_once() -> None:
    seen = 0

    def endless() -> object:
        nonlocal seen
        while True:
            seen += 1
            yield image(f"a/{seen}.jpg")

    with pytest.raises(ArchiveTooLarge):
        plan(endless(), Limits(max_archive_entries=10))  # type: ignore[arg-type]
    assert seen == 11


def test_every_reason_is_documented() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "datasets.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))
    found = {code: status for code, status in rows.items() if status != "finding"}
    assert found == {code: Refusal("x", code).status for code in [*SKIPPED, *REJECTED]}


def test_too_many_bytes_end_the_plan() -> None:
    with pytest.raises(ArchiveTooLarge) as caught:
        plan([image("a/1.jpg", 60), image("a/2.jpg", 60)], Limits(max_expanded_bytes=100))
    assert "TOPWORK_MAX_EXPANDED_BYTES" in (caught.value.hint or "")


def test_a_flawed_member_is_no_table() -> None:
    flaws = ("size_mismatch", "encrypted", "entries_overlap", None)
    planned = plan((Member(f"{it}.csv", 10, flaw=it, content="other") for it in flaws), Limits())
    assert planned.tables == {3: ("None.csv", 10)}
    assert [it.code for it in planned.refusals] == ["not_an_image"] * 3
