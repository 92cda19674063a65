"""Manifests: one line an image, immutable, sorted by path; what versions of a dataset consist of.

A new version (exclude, relabel, re-split) is a new manifest over the same shards, so everything
here is a function of manifest lines and of nothing else.
"""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict

from core.imaging.findings import SERIOUS
from core.ingest.archive import Refusal, by_status
from core.ingest.class_names import MAX_CLASSES, check_classes, class_name_problem
from core.ingest.groups import SAME, Near, draw, near_duplicates, told
from core.ingest.split import Ratios
from topwork.errors import DatasetInvalid, InvalidField, LayoutAmbiguous, TooFewClasses
from topwork.kinds import ReportStatus, Severity, Split

EXAMPLES = 5
CONFIRMED = "label_confirmed"  # Finding of an image at whose label somebody has looked.
IS_CONFIRMED = {CONFIRMED: "Somebody has looked at the label, and it is right."}
MISSING = "A class has no image in a split, so nothing is measured for it there."
SINGLE = "A class has a single training image."
BEYOND = 0.5  # Of an image outside the square in its middle: it is longer than 2:1.
ELONGATED = "A square in the middle of the image leaves out more than half of it."
MISSED = "A split is far from the share that was asked for, because groups are not divided."
NEAR = {
    "near_conflict": Severity.WARNING,
    "near_leak": Severity.WARNING,
    "near_duplicate": Severity.INFO,
}

Lost = dict[str, dict[str, int]]  # Class without a usable image -> code -> files.

# The functional form, because `class` is a keyword.
Line = TypedDict(
    "Line",
    {
        "sha256": str,
        "path": str,
        "class": str,
        "split": str,
        "width": int,
        "height": int,
        "shard": str,
        "offset": int,
        "length": int,
        "findings": list[str],
        "range": NotRequired[list[int]],  # As of `ImageInfo`.
        "group": NotRequired[list[str]],  # A column and what it says, where `group_by` names one.
        "phash": NotRequired[str],  # Not of pictures that are blank or tiny, nor in old manifests.
    },
)


class Revised(NamedTuple):
    """The lines of a new version, what `near_duplicates` says of them, and of shares `draw`."""

    lines: list[Line]
    near: Near
    missed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a user should know about the data; `where` holds paths, classes or split/class."""

    code: str
    severity: Severity
    message: str
    where: tuple[str, ...]
    details: Mapping[str, str] = field(default_factory=dict)  # Place -> words of its own.

    def to_dict(self) -> dict[str, Any]:
        """Return the form of `dataset.json`: a count and the first few examples."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "count": len(self.where),
            "examples": list(self.where[:EXAMPLES]),
        }


def encode(lines: Iterable[Line]) -> bytes:
    """Return `manifest.jsonl`, sorted by path, so that equal content has equal bytes."""
    ordered = sorted(lines, key=lambda line: line["path"])
    return "".join(json_line(line) for line in ordered).encode()


def decode(data: bytes) -> list[Line]:
    """Return the lines of a `manifest.jsonl`."""
    return [json.loads(line) for line in data.splitlines()]


def json_line(value: Any) -> str:
    """Return a compact JSON object with its newline."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def count(lines: Iterable[Line]) -> dict[str, dict[str, int]]:
    """Return split -> class -> images; every split present names every class."""
    pairs = Counter((line["split"], line["class"]) for line in lines)
    classes = sorted({name for _, name in pairs})
    splits = [split for split in Split if any(pair[0] == split for pair in pairs)]
    return {split: {name: pairs[split, name] for name in classes} for split in splits}


def check(lines: Collection[Line]) -> None:
    """Refuse what no classifier can be trained on.

    Raises:
        DatasetInvalid: There is no image.
        TooFewClasses: There is only one class.
    """
    classes = {line["class"] for line in lines}
    if not classes:
        raise DatasetInvalid
    if len(classes) == 1:
        raise TooFewClasses(f"All images belong to one class, {classes.pop()!r}.")


def summarise(
    lines: Collection[Line],
    findings: Iterable[Finding],
    refusals: Collection[Refusal] = (),
    *,
    encoded: bytes | None = None,
    drawn: Collection[str] = (),
    lost: Lost | None = None,
    answers: Mapping[str, Any] | None = None,
    tables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what `dataset.json` says about a manifest and about the files that are not in it.

    Args:
        lines: The manifest.
        findings: What a user should know.
        refusals: Files that are not in the manifest.
        encoded: `encode(lines)`, where the caller has it.
        drawn: Splits that the upload did not name.
        lost: Classes that it names and that are not in the manifest.
        answers: What the request said about how to read it.
        tables: Path of each table that was used -> its columns.
    """
    counts = count(lines)
    wide = sixteen_bit(lines)
    return {
        "classes": sorted({line["class"] for line in lines}),
        "counts": counts,
        "images": len(lines),
        "bytes": sum(line["length"] for line in lines),
        "digest": hashlib.sha256(encoded or encode(lines)).hexdigest(),
        "drawn": sorted({*drawn} & counts.keys()),
        "shapes": shapes(lines),
        "reading": describe(counts, drawn, lost, tables),
        "lost_classes": lost or {},
        "answers": dict(answers or {}),
        "findings": [found.to_dict() for found in findings],
        **({"sixteen_bit": wide} if wide else {}),
        **by_status(refusals),
    }


def shapes(lines: Iterable[Line]) -> dict[str, Any]:
    """Return what a plan asks of the sizes of images.

    `largest` is a side with as many pixels as the largest has, `elongated` how many are longer than
    2:1, `unseen` the mean share of these that lies outside the square in the middle.
    """
    found = list(lines)
    pixels = (line["width"] * line["height"] for line in found)
    outside = [share for line in found if (share := beyond_square(line)) > BEYOND]
    return {
        "largest": math.ceil(math.sqrt(max(pixels, default=0))),
        "elongated": len(outside),
        "unseen": sum(outside) / len(outside) if outside else 0.0,
    }


def beyond_square(line: Line) -> float:
    """Return which share of an image lies outside the square in its middle; 0 if unknown."""
    short, long = sorted((line["width"], line["height"]))
    return 1 - short / long if short else 0.0


def sixteen_bit(lines: Iterable[Line]) -> dict[str, int] | None:
    """Return what a plan has to know of pictures of more than 8 bits: {images, largest, white}.

    `largest` is the largest sample of all of them, `white` the largest number that is white in one.
    """
    wide = [
        line["range"] for line in lines if "sixteen_bit" in line["findings"] and "range" in line
    ]
    if not wide:
        return None
    largest, white = (max(it) for it in zip(*wide, strict=True))
    return {"images": len(wide), "largest": largest, "white": white}


def describe(
    counts: Mapping[str, Mapping[str, int]],
    drawn: Collection[str] = (),
    lost: Lost | None = None,
    tables: Mapping[str, str] | None = None,
) -> str:
    """Say in a few sentences how the data was understood."""
    classes = sorted(next(iter(counts.values()), {}))
    names = ", ".join(classes[:EXAMPLES]) + (", ..." if len(classes) > EXAMPLES else "")
    sizes = ", ".join(f"{split} {sum(by.values())}" for split, by in counts.items())
    splits = "1 split" if len(counts) == 1 else f"{len(counts)} splits"
    text = f"I see {len(classes)} classes ({names}) and {splits} ({sizes} images)."
    present = [split for split in counts if split in drawn]
    text += f" {' and '.join(present)} was drawn from train." if present else ""
    if tables:
        used = ", ".join(f"{path} ({columns})" for path, columns in [*tables.items()][:EXAMPLES])
        text += f" Classes or splits are from {used}."
    return f"{text} No image can be used of {with_reasons(lost)}." if lost else text


def with_reasons(lost: Lost) -> str:
    """Name the first lost classes, each with the reasons for its files."""
    first = [f"{name} ({reasons(lost[name])})" for name in sorted(lost)[:EXAMPLES]]
    more = [f"{len(lost) - EXAMPLES} more"] if len(lost) > EXAMPLES else []
    return ", ".join(first + more)


def reasons(counts: Mapping[str, int]) -> str:
    """Return how many files were refused for which reason."""
    return ", ".join(f"{files} x {code}" for code, files in sorted(counts.items()))


def report(findings: Iterable[Finding], refusals: Iterable[Refusal] = ()) -> bytes:
    """Return `report.jsonl`: one line for each file not used and for each place of a finding."""
    rows = [(it.path, it.status, it.code, it.message, it.other) for it in refusals]
    refused = {code for _, _, code, *_ in rows}
    # A finding that sums up refused files would only repeat their lines.
    rows += [
        (place, ReportStatus.FINDING, found.code, found.details.get(place, found.message), "")
        for found in findings
        if found.code not in refused
        for place in found.where
    ]
    keys = ("path", "status", "code", "message", "other_path")
    lines = (dict(zip(keys, row, strict=True)) for row in sorted(rows))
    told = ({key: it for key, it in line.items() if it or key != "other_path"} for line in lines)
    return "".join(map(json_line, told)).encode()


def examine(
    lines: Collection[Line], messages: Mapping[str, str], near: Near, missed: Mapping[str, str]
) -> list[Finding]:
    """Return what a manifest's own lines show.

    Args:
        lines: The manifest.
        messages: Code of an image's finding -> words.
        near: What `near_duplicates` says of these lines.
        missed: Split -> how far from its share it is, as `draw` says.
    """
    counts = count(lines)
    missing = [f"{s}/{name}" for s, by in counts.items() for name, n in by.items() if not n]
    single = [name for name, images in counts.get(Split.TRAIN, {}).items() if images == 1]
    about_images: dict[str, dict[str, str]] = defaultdict(dict)
    for line in lines:
        for code in line["findings"]:
            about_images[code][line["path"]] = _words(code, line, messages.get(code, code))
    found = [
        Finding("class_missing_in_split", Severity.WARNING, MISSING, tuple(missing)),
        Finding("class_too_small", Severity.WARNING, SINGLE, tuple(single)),
        Finding("split_share_missed", Severity.WARNING, MISSED, tuple(missed), missed),
    ]
    beyond = {
        line["path"]: f"{share:.0%} of the image lies outside the square in its middle."
        for line in lines
        if (share := beyond_square(line)) > BEYOND
    }
    found.append(Finding("elongated", Severity.WARNING, ELONGATED, tuple(sorted(beyond)), beyond))
    found += [
        Finding(code, NEAR[code], f"{SAME[code]}.", tuple(sorted(paths)), paths)
        for code, paths in told(lines, near).items()
    ]
    found += [
        Finding(code, _severity(code), messages.get(code, code), tuple(sorted(paths)), paths)
        for code, paths in sorted(about_images.items())
    ]
    return [it for it in found if it.where]


def _severity(code: str) -> Severity:
    return Severity.WARNING if code in SERIOUS else Severity.INFO


def _words(code: str, line: Line, usual: str) -> str:
    """Return what a finding says of one image."""
    if code != "dark_range" or "range" not in line:
        return usual
    largest, white = line["range"]
    return f"The largest sample is {largest} of {white}."


def revise(
    lines: Iterable[Line],
    *,
    exclude: Collection[str] = (),
    relabel: Mapping[str, str] | None = None,
    confirm: Collection[str] = (),
    split: Ratios | None = None,
) -> Revised:
    """Return the lines of a new version, and what to say of them; the given ones stay as they are.

    Args:
        lines: The version to start from.
        exclude: sha256 of images to leave out.
        relabel: sha256 -> class that the image belongs to.
        confirm: sha256 of images whose label is right; it is so no more with another label.
        split: How to split anew; without it every image stays in its split.

    Raises:
        InvalidField: An image is not in the version, or a class name cannot be used.
        DatasetInvalid, TooFewClasses: Too little would be left.
    """
    relabel = relabel or {}
    old = list(lines)
    known = {line["sha256"] for line in old}
    for param, hashes in (("exclude", exclude), ("relabel", relabel), ("confirm", confirm)):
        unknown = sorted(set(hashes) - known)
        if unknown:
            raise InvalidField(f"there is no image {unknown[0]} in this version", param=param)
    for name in sorted(set(relabel.values())):
        problem = class_name_problem(name)
        if problem is not None:
            raise InvalidField(problem, param="relabel")
    left_out, right = set(exclude), set(confirm)
    new = [
        _corrected(line, relabel.get(line["sha256"], line["class"]), line["sha256"] in right)
        for line in old
        if line["sha256"] not in left_out
    ]
    near = near_duplicates(new)
    missed: Mapping[str, str] = {}
    if split is not None:
        places, missed = draw(new, split, near)
        new = [{**line, "split": places[line["sha256"]]} for line in new]
    check(new)
    if relabel:
        _check_names({line["class"] for line in new})
    trained = {line["class"] for line in new if line["split"] == Split.TRAIN}
    orphans = sorted({line["class"] for line in new} - trained)
    if orphans:
        message = f"the class {orphans[0]!r} would have no training image"
        raise InvalidField(message, param="relabel" if relabel else "exclude")
    return Revised(new, near, missed)


def _corrected(line: Line, name: str, right: bool) -> Line:  # noqa: FBT001 - a fact of the line.
    """Return a line with this class, `right` where somebody has said that it is."""
    findings = [code for code in line["findings"] if code != CONFIRMED]
    if right or (CONFIRMED in line["findings"] and name == line["class"]):
        findings.append(CONFIRMED)
    return {**line, "class": name, "findings": findings}


def _check_names(names: Collection[str]) -> None:
    """Hold the classes of a relabelled version to the rules for class folders."""
    try:
        check_classes(names)
    except LayoutAmbiguous:
        message = "two classes would differ in nothing but upper and lower case or spaces"
        raise InvalidField(message, param="relabel") from None
    except DatasetInvalid:
        message = f"there would be {len(names)} classes; the limit is {MAX_CLASSES}"
        raise InvalidField(message, param="relabel") from None
