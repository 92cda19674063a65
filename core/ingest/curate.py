"""Curate a dataset: duplicates, leaks, label conflicts, classes, the split (pure)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from core.ingest import lost_classes
from core.ingest.archive import REJECTED, SKIPPED, Refusal
from core.ingest.decoders import DecodeResult
from core.ingest.groups import Near, draw, near_duplicates
from core.ingest.layout import Reading
from core.ingest.manifest import Finding, Line, Lost, check
from core.ingest.name_encoding import Guess
from core.ingest.shards import Address
from core.ingest.split import Copy, Ratios, choose
from topwork.errors import ArchiveUnsafe, DatasetInvalid, TooFewClasses
from topwork.kinds import Severity, Split

NOTED = ("duplicate", "split_leak", "label_conflict", "class_not_in_train")
EMPTY = "A class has a folder or a row and no file; it is left out."
NESTED = "Files lie deeper inside a class folder; they count as images of that class."

TABLES = "Classes or splits are read from this table"
UNREADABLE = "The file looks like a table and cannot be read"

UNSAFE = {
    "path_traversal",
    "path_absolute",
    "path_drive",
    "name_nul",
    "link",
    "special_file",
    "entries_overlap",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A good image: what decoding showed and where its bytes are."""

    verdict: DecodeResult
    address: Address


@dataclass(frozen=True, slots=True)
class Curated:
    """The manifest of a dataset, what was left out of it and what a user should know."""

    lines: list[Line]
    refusals: list[Refusal]
    findings: list[Finding]
    drawn: list[str]  # Splits that the archive did not name.
    lost: Lost
    near: Near
    missed: Mapping[str, str]  # Split -> how far from its share groups keep it.


def curate(
    files: Iterable[tuple[str, str]],
    stored: Mapping[str, Stored],
    shards: Collection[str],
    reading: Reading,
    ratios: Ratios,
    refused: Collection[Refusal] = (),
) -> Curated:
    """Turn what was read into manifest lines.

    Args:
        files: (path, sha256) of each file that is a good image.
        stored: sha256 -> the image.
        shards: Names of the shards in the order of `Address.shard`.
        reading: Class and given split of each path.
        ratios: Shares of the splits that were not given.
        refused: Files that were refused before.

    Returns:
        Refusals are all of them, those given and those of the layout included.
    """
    copies = defaultdict(list)
    for path, sha256 in files:
        place = reading.places[path]
        copies[sha256].append(Copy(path, place.class_name, place.split))
    kept: dict[str, Copy] = {}
    refusals: list[Refusal] = [*refused, *reading.refusals]
    for sha256, group in copies.items():
        chosen, reasons = choose(group) if len(group) > 1 else (group[0], {})
        refusals += [Refusal(path, code, other=other) for path, (code, other) in reasons.items()]
        if chosen is not None:
            kept[sha256] = chosen
    trained = {copy.class_name for copy in kept.values() if copy.split in {None, Split.TRAIN}}
    for sha256, copy in list(kept.items()):
        if copy.class_name not in trained:
            refusals.append(Refusal(copy.path, "class_not_in_train"))
            del kept[sha256]
    names = list(shards)
    lines = [_line(sha256, copy, stored[sha256], names) for sha256, copy in kept.items()]
    for line in lines:
        if line["path"] in reading.groups:
            line["group"] = [ratios.group_column or "", reading.groups[line["path"]]]
    near = near_duplicates(lines)
    lines, missed = _split(lines, reading.splits, ratios, near)
    drawn = sorted({line["split"] for line in lines} - {Split.TRAIN, *reading.splits})
    used = {line["class"] for line in lines}
    classes = lost_classes.lost(reading, used, refusals)
    findings = lost_classes.finding(classes) + _findings({*used, *classes}, refusals, reading)
    return Curated(lines, refusals, findings, drawn, classes, near, missed)


def guessed(guess: Guess | None) -> list[Finding]:
    """Return the finding that names were read in an encoding that the archive does not state."""
    if guess is None:
        return []
    words = (
        f"The archive does not say how its names are encoded; they are read as {guess.encoding}."
    )
    return [Finding("name_encoding_guessed", Severity.WARNING, words, guess.samples)]


def check_usable(lines: Collection[Line], refusals: Collection[Refusal]) -> None:
    """Say what was wrong with the files when too little is left of them to train on.

    Raises:
        ArchiveUnsafe: Nothing is left, and some of it could have done harm.
        DatasetInvalid: There is no image.
        TooFewClasses: There is only one class.
    """
    by_code: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        by_code.setdefault(refusal.code, []).append(refusal)
    parts = [
        f"{len(group)} x {code}, for example {group[0].path}: {group[0].message}"
        for code, group in sorted(by_code.items())
    ]
    hint = "Not used: " + "; ".join(parts) if parts else None
    if not lines and UNSAFE & by_code.keys():
        raise ArchiveUnsafe(hint=hint)
    try:
        check(lines)
    except (DatasetInvalid, TooFewClasses) as error:
        raise type(error)(error.message, hint=hint) from None


def _line(sha256: str, copy: Copy, image: Stored, shards: list[str]) -> Line:
    line: Line = {
        "sha256": sha256,
        "path": copy.path,
        "class": copy.class_name,
        "split": copy.split or Split.TRAIN,
        "width": image.verdict.width,
        "height": image.verdict.height,
        "shard": shards[image.address.shard],
        "offset": image.address.offset,
        "length": image.address.length,
        "findings": list(image.verdict.findings),
    }
    if image.verdict.range:
        line["range"] = list(image.verdict.range)
    if image.verdict.phash:
        line["phash"] = image.verdict.phash
    return line


def _split(
    lines: list[Line], given: Collection[str], ratios: Ratios, near: Near
) -> tuple[list[Line], Mapping[str, str]]:
    """Draw from the training images those splits that the archive does not name."""
    missing = replace(
        ratios,
        val=0.0 if Split.VAL in given else ratios.val,
        test=0.0 if Split.TEST in given else ratios.test,
    )
    trained = [line for line in lines if line["split"] == Split.TRAIN]
    places, missed = draw(trained, missing, near)
    return [{**it, "split": places.get(it["sha256"], it["split"])} for it in lines], missed


def _findings(
    known: Collection[str], refusals: Iterable[Refusal], reading: Reading
) -> list[Finding]:
    empty = {name for _, name in reading.declared}.difference(known)
    found = [
        Finding("class_empty", Severity.WARNING, EMPTY, tuple(sorted(empty))),
        Finding("nested_folders", Severity.INFO, NESTED, tuple(sorted(reading.nested))),
        _told("labels_from_table", Severity.INFO, TABLES, reading.tables),
        _told("table_unreadable", Severity.WARNING, UNREADABLE, reading.broken),
    ]
    where = defaultdict(list)
    for refusal in refusals:
        where[refusal.code].append(refusal.path)
    words, usual = SKIPPED | REJECTED, Severity.WARNING
    found += [Finding(code, usual, words[code], tuple(sorted(where[code]))) for code in NOTED]
    return [it for it in found if it.where]


def _told(code: str, severity: Severity, words: str, places: Mapping[str, str]) -> Finding:
    """Return a finding that says of each place something of its own."""
    details = {path: f"{words}: {why}." for path, why in places.items()}
    return Finding(code, severity, f"{words}.", tuple(sorted(places)), details)
