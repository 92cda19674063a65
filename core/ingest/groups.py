"""Which images of a manifest belong together, and what follows for splits and findings (pure)."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from core.ingest.split import Ratios, assign, missed
from topwork.errors import InvalidField
from topwork.kinds import GroupBy, Split
from topwork.types.group_pattern import checked, group_in

MOST_SECONDS = 20  # Of matching the paths of a dataset.

SAME = {
    "near_conflict": "Nearly the same picture lies under another class",
    "near_leak": "Nearly the same picture lies in another split, so its result measures less",
    "near_duplicate": "Nearly the same picture is there once more",
}


Near = Sequence[Sequence[str]]  # The sha256 of pictures that show nearly the same, by path.


def groups_of(lines: Collection[Mapping[str, Any]], ratios: Ratios, near: Near) -> dict[str, str]:
    """Return sha256 -> name of the group, for images that are not alone in theirs.

    Args:
        lines: Of a manifest.
        ratios: What makes images belong together.
        near: Near-duplicates among these lines and perhaps others.

    Raises:
        InvalidField: The pattern is in no path, or takes too long; the version has no such column.
    """
    if ratios.group_by == GroupBy.NONE:
        return {}
    if ratios.group_by == GroupBy.FOLDER:
        return {it["sha256"]: it["path"].rpartition("/")[0] for it in lines}
    if ratios.group_by == GroupBy.PATTERN:
        return _by_pattern(lines, ratios.group_pattern or "")
    if ratios.group_by == GroupBy.COLUMN:
        return _by_column(lines, ratios.group_column or "")
    known = {it["sha256"] for it in lines}
    groups = ([it for it in group if it in known] for group in near)
    return {it: min(group) for group in groups for it in group}


def _by_pattern(lines: Collection[Mapping[str, Any]], text: str) -> dict[str, str]:
    param, began = "split.group_pattern", time.monotonic()
    try:
        pattern = checked(text)
    except ValueError as error:
        raise InvalidField(str(error), param=param) from None
    found = {}
    for line in lines:
        if time.monotonic() - began > MOST_SECONDS:
            message = f"the pattern takes more than {MOST_SECONDS} seconds for all paths"
            raise InvalidField(message, param=param)
        name = group_in(pattern, line["path"])
        if name is not None:
            found[line["sha256"]] = name
    if lines and not found:
        example = min(line["path"] for line in lines)
        raise InvalidField(f"the pattern is in no path, as in {example!r}", param=param)
    return found


def _by_column(lines: Collection[Mapping[str, Any]], column: str) -> dict[str, str]:
    known = {it["sha256"]: it["group"][1] for it in lines if it.get("group", [""])[0] == column}
    if lines and not known:
        message = f"no table that names images was read with a column {column!r}"
        raise InvalidField(message, param="split.group_column")
    return known


def draw(
    lines: Collection[Mapping[str, Any]], ratios: Ratios, near: Near
) -> tuple[dict[str, Split], dict[str, str]]:
    """Split the lines of a manifest, what belongs together on one side; errors of `groups_of`.

    Args:
        lines: Which are to be split.
        ratios: How.
        near: Near-duplicates among these lines and perhaps others.

    Returns:
        sha256 -> split, and split -> words where groups kept it far from its share.
    """
    classes: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        classes[line["class"]].append(line["sha256"])
    places = assign(classes, ratios, groups_of(lines, ratios, near))
    words = {
        str(split): f"{split} has {got} of {len(lines)} images where {wanted} were asked for,"
        f" because groups ({ratios.group_by}) are not divided."
        for split, (got, wanted) in missed(classes, ratios, places).items()
    }
    return places, words


def near_duplicates(lines: Collection[Mapping[str, Any]]) -> Near:
    """Return the images of a manifest that show nearly the same as others."""
    from core.ingest.near_duplicates import clusters  # noqa: PLC0415 - numpy; the api starts without.

    hashed = sorted((it for it in lines if it.get("phash")), key=lambda it: it["path"])
    found = clusters([bytes.fromhex(it["phash"]) for it in hashed])
    return [[hashed[at]["sha256"] for at in group] for group in found]


def told(lines: Collection[Mapping[str, Any]], near: Near) -> dict[str, dict[str, str]]:
    """Return code -> path -> words that name the other file, for near-duplicates of a manifest."""
    found: dict[str, dict[str, str]] = {code: {} for code in SAME}
    by_hash = {it["sha256"]: it for it in lines} if near else {}
    for hashes in near:
        group = [by_hash[it] for it in hashes]
        first_of = {
            "near_conflict": ("class", _first_paths(group, "class")),
            "near_leak": ("split", _first_paths(group, "split")),
        }
        for line in group:
            code, other = _against(line, first_of) or ("near_duplicate", group[0]["path"])
            if other != line["path"]:
                found[code][line["path"]] = f"{SAME[code]}: {other}."
    return found


def _first_paths(group: Iterable[Mapping[str, Any]], key: str) -> dict[str, str]:
    """Return the first path of each class, or split, of a group."""
    found: dict[str, str] = {}
    for line in group:
        found.setdefault(line[key], line["path"])
    return found


def _against(
    line: Mapping[str, Any], first_of: Mapping[str, tuple[str, Mapping[str, str]]]
) -> tuple[str, str] | None:
    """Return the most serious thing that another picture of the group says about one."""
    for code, (key, paths) in first_of.items():
        for value, path in islice(paths.items(), 2):
            if value != line[key]:
                return code, path
    return None
