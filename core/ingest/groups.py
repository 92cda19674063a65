"""Which images of a manifest belong together, and what near-duplicates say about it (pure)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from topwork.kinds import GroupBy

SAME = {
    "near_conflict": "Nearly the same picture lies under another class",
    "near_leak": "Nearly the same picture lies in another split, so its result measures less",
    "near_duplicate": "Nearly the same picture is there once more",
}


def groups_of(lines: Collection[Mapping[str, Any]], group_by: GroupBy) -> dict[str, str]:
    """Return sha256 -> name of the group, for images that are not alone in theirs.

    Args:
        lines: Of a manifest.
        group_by: What makes images belong together.
    """
    if group_by == GroupBy.NONE:
        return {}
    if group_by == GroupBy.FOLDER:
        return {it["sha256"]: it["path"].rpartition("/")[0] for it in lines}
    return {
        it["sha256"]: min(one["sha256"] for one in group)
        for group in near_duplicates(lines)
        for it in group
    }


def near_duplicates(lines: Collection[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the lines of pictures that show nearly the same, by path."""
    from core.ingest.near_duplicates import clusters  # noqa: PLC0415 - numpy; the api starts without.

    hashed = sorted((it for it in lines if it.get("phash")), key=lambda it: it["path"])
    found = clusters([bytes.fromhex(it["phash"]) for it in hashed])
    return [[hashed[at] for at in group] for group in found]


def told(groups: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, str]]:
    """Return code -> path -> words that name the other file, for groups of near-duplicates."""
    found: dict[str, dict[str, str]] = {code: {} for code in SAME}
    for group in groups:
        for line in group:
            code, other = _against(line, group)
            if code:
                found[code][line["path"]] = f"{SAME[code]}: {other}."
    return found


def _against(line: Mapping[str, Any], group: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the most serious thing that another picture of the group says about one."""
    for code, key in (("near_conflict", "class"), ("near_leak", "split")):
        for other in group:
            if other[key] != line[key]:
                return code, other["path"]
    first = group[0]["path"]
    return ("near_duplicate", first) if line["path"] != first else ("", "")
