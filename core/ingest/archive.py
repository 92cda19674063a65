"""Plan an upload: which members of an archive are read and which are not, with the reason.

This module decides and touches no file: it sees names, sizes and kinds, and answers with a `Plan`.
Names are only ever compared and reported; nothing is written under a name from an archive.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, NamedTuple

from core.ingest.name_encoding import Guess, decide
from topwork.errors import ArchiveTooLarge
from topwork.kinds import NameEncoding, ReportStatus

# Not from core.system.settings: pydantic would be half of a child's start-up.
MEBIBYTE = 1024 * 1024
MAX_PATH_BYTES = 512
MAX_SEGMENT_BYTES = 255
MAX_NAME = 1023  # The rest of a longer name is not kept; it is refused as too long.
MAX_FOLDERS = 6

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".lst", ".xml")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information"}

SKIPPED = {
    "system_file": "A file of the operating system or of a tool, or a hidden one.",
    "nested_archive": "An archive inside the archive is not opened; upload it on its own.",
    "not_an_image": "The content is not one of the image formats that are read.",
    "empty_file": "The file is empty.",
    "no_class": "The file lies in no class folder.",
    "unlabelled": "The file lies in a folder of images without labels.",
    "no_label": "No row of the table of labels gives the file a class.",
    "not_in_split": "No list of a split names the file.",
    "ignored": "The request says to leave out the folder of the file.",
    "duplicate": "The same image was already read in this class.",
    "split_leak": "The same image is also held out for evaluation, where it is kept.",
}
REJECTED = {
    "path_traversal": "The path leads out of the archive.",
    "path_absolute": "The path is absolute.",
    "path_drive": "The path names a drive.",
    "name_nul": "The name contains a NUL character.",
    "name_not_utf8": "The name is not valid in its encoding, which is UTF-8 as a rule.",
    "path_too_long": f"A name is over {MAX_SEGMENT_BYTES} or a path over {MAX_PATH_BYTES} bytes.",
    "path_too_deep": f"The file lies more than {MAX_FOLDERS} folders deep.",
    "link": "Links inside an archive are not followed.",
    "special_file": "Devices, pipes and sparse files are not read.",
    "encrypted": "The file is encrypted.",
    "compression_unsupported": "Only stored and deflated members of a zip are read.",
    "entries_overlap": "The member shares its bytes with another one.",
    "entry_too_large": "The file is larger than one image may be.",
    "name_duplicate": "Another member has the same name; the first one is used.",
    "name_case_clash": "Another member's name differs only in upper and lower case.",
    "name_unicode_clash": "Another member's name differs only in its Unicode form.",
    "size_mismatch": "The content is not as long as the archive says.",
    "entry_corrupt": "The packed data is damaged.",
    "entry_truncated": "The archive ends within this file.",
    "image_undecodable": "The image is broken.",
    "image_too_large": "The image has too many pixels.",
    "decoder_failed": "The decoder crashed, or ran out of its time, on this file.",
    "format_unsupported": "The image is in a format that is not read.",
    "class_name_invalid": "The class folder's name cannot be used.",
    "multi_label": "The table gives the file several classes; one is meant to be used.",
    "file_missing": "A table names the file, and no one image of the upload is it.",
    "class_not_in_train": "The class has no training image.",
    "label_conflict": "The same image lies under two classes.",
}

Kind = Literal["file", "folder", "link", "special"]
Content = Literal["unknown", "image", "unread", "archive", "other"]


@dataclass(frozen=True, slots=True)
class Member:
    """One entry as an archive declares it.

    Args:
        name: Its text, lone surrogates in it for bytes that are not UTF-8 as was said; or its bytes
            where the archive does not say what they mean and they are not ASCII.
        size: Declared expanded bytes.
        flaw: A key of `REJECTED` that reading the archive's directory already showed.
        content: What the first bytes are; looked at only where the suffix is not an image's.
        words: What an image is that is not read, in a sentence.
        same_as: Name of an earlier member whose content this one has, as hard links in tars do.
    """

    name: str | bytes
    size: int = 0
    kind: Kind = "file"
    flaw: str | None = None
    content: Content = "unknown"
    words: str = ""
    same_as: str | bytes | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an archive may be once it is unpacked.

    How densely it was packed says nothing: drawings shrink to a thousandth.
    """

    max_archive_entries: int = 200_000
    max_entry_bytes: int = 50 * MEBIBYTE
    max_expanded_bytes: int = 40 * 1024 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one file is not used: `status` is skipped (nothing to read) or rejected.

    `other` is the path of a copy of the image, where that is the reason.
    """

    path: str
    code: str
    detail: str = ""
    other: str = ""

    @property
    def status(self) -> ReportStatus:
        """Return `skipped` or `rejected`."""
        return ReportStatus.SKIPPED if self.code in SKIPPED else ReportStatus.REJECTED

    @property
    def message(self) -> str:
        """Say why in words."""
        words = self.detail or SKIPPED.get(self.code) or REJECTED[self.code]
        return f"{words} See {self.other}." if self.other else words


def by_status(refusals: Iterable[Refusal]) -> dict[str, dict[str, int]]:
    """Return `{"skipped": {code: files}, "rejected": {code: files}}`."""
    counts = Counter((refusal.status, refusal.code) for refusal in refusals)
    return {
        kind: {code: n for (status, code), n in counts.items() if status is kind}
        for kind in (ReportStatus.SKIPPED, ReportStatus.REJECTED)
    }


@dataclass(slots=True)
class Plan:
    """What to read: position in the archive -> safe path; and everything else, with its reason.

    `copies` has the position of the earlier member that a file shares its content with; `tables`
    the path and size of each file that may be a table, and is no refusal yet.
    """

    files: dict[int, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    copies: dict[int, int] = field(default_factory=dict)
    tables: dict[int, tuple[str, int]] = field(default_factory=dict)
    expanded_bytes: int = 0
    guess: Guess | None = None


def has_suffix(name: str | bytes, suffixes: tuple[str, ...]) -> bool:
    """Tell whether a name ends so; in no code page is a dot or slash a part of a character."""
    text = name if isinstance(name, str) else name.decode("latin-1")
    return text.lower().endswith(suffixes)


def plan(
    members: Iterable[Member], limits: Limits, name_encoding: NameEncoding | None = None
) -> Plan:
    """Sort an archive's members into those to read and those refused.

    Args:
        members: As the archive lists them.
        limits: How large it may be.
        name_encoding: Of the names whose encoding the archive does not say; found out where None.

    Raises:
        NameEncodingUnknown: It cannot be found out.
        ArchiveTooLarge: There are more members, or more bytes to unpack, than the limits allow.
    """
    result = Plan()
    seen: dict[str, _Seen] = {}
    sizes: dict[int, tuple[int, int]] = {}  # Hash of a name -> position and size of its file.
    for index, (name, listed) in enumerate(_named(members, limits, name_encoding, result)):
        if index >= limits.max_archive_entries:
            raise ArchiveTooLarge(
                f"The archive has more than {limits.max_archive_entries} entries.",
                hint="Send it in parts, or raise TOPWORK_MAX_ARCHIVE_ENTRIES.",
            )
        path, code = clean(name)
        original = sizes.get(hash(listed.same_as)) if listed.same_as else None
        member = _as_file(listed, original[1]) if original else listed
        late = isinstance(member.name, bytes) and name.endswith("\\") and not member.size
        folder = member.kind == "folder" or late
        kind = "folder" if folder else member.kind
        code = code or _refused(member, kind, path, limits) or _clash(name, kind, path, seen)
        table = code == "not_an_image" and has_suffix(path, TABLE_SUFFIXES)
        if table and member.flaw is None:  # Its size can be believed.
            result.tables[index] = path, member.size
        elif code is not None:
            detail = member.words if code == "format_unsupported" else ""
            result.refusals.append(Refusal(path, code, detail))
        elif folder:
            result.folders.append(path)
        else:
            result.files[index] = path
            sizes[hash(member.name)] = original or (index, member.size)
            if original:
                result.copies[index] = original[0]
                continue
            result.expanded_bytes += member.size
            if result.expanded_bytes > limits.max_expanded_bytes:
                raise ArchiveTooLarge(
                    f"The archive unpacks to more than {limits.max_expanded_bytes} bytes.",
                    hint="Send it in parts, or raise TOPWORK_MAX_EXPANDED_BYTES.",
                )
    return result


def _as_file(link: Member, size: int) -> Member:
    """Return a hard link as the file that it is, of the size and kind of the one it names."""
    return replace(link, kind="file", size=size, content="image")


def _named(
    members: Iterable[Member], limits: Limits, encoding: str | None, result: Plan
) -> Iterator[tuple[str, Member]]:
    """Yield each member with its name; those from the first undeclared name on are read together.

    Names that are not what the request says they are keep lone surrogates, and are refused alone.
    """
    left = iter(members)
    for member in left:
        if isinstance(member.name, str):
            yield member.name, member
            continue
        rest = [member, *islice(left, limits.max_archive_entries)]
        if encoding is None:
            raw = [it.name for it in rest if isinstance(it.name, bytes)]
            encoding, result.guess = decide(raw)
        for it in rest:
            name = it.name
            yield name if isinstance(name, str) else name.decode(encoding, "surrogateescape"), it


def clean(name: str) -> tuple[str, str | None]:
    """Return a member's path with `/` and NFC, and the reason why it is unsafe, if it is."""
    shown = printable(name)
    path = unicodedata.normalize("NFC", name.replace("\\", "/"))
    segments = [segment for segment in path.split("/") if segment not in {"", "."}]
    tests = {
        "name_nul": "\0" in name,
        "name_not_utf8": not _is_utf8(name),
        "path_absolute": path.startswith("/"),
        "path_drive": re.match(r"[A-Za-z]:", path) is not None,
        "path_traversal": ".." in segments,
        # It was cut, so it may say something else than it did: `./` may be repeated at will.
        "path_too_long": len(name) >= MAX_NAME,
    }
    for code, failed in tests.items():
        if failed:
            return shown, code
    path = "/".join(segments)
    lengths = [len(segment.encode()) for segment in segments]
    if len(path.encode()) > MAX_PATH_BYTES or max(lengths, default=0) > MAX_SEGMENT_BYTES:
        return shown, "path_too_long"
    return path, None


def printable(name: str) -> str:
    """Return a name that any report can hold: lone surrogates and NUL shown, length bounded."""
    safe = name[: 2 * MAX_PATH_BYTES].replace("\0", "\\0")
    return safe.encode("utf-8", "backslashreplace").decode()


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(member: Member, kind: Kind, path: str, limits: Limits) -> str | None:
    """Return the first reason not to read a member whose path is safe."""
    *parents, name = path.casefold().split("/")
    hidden = any(part.startswith(".") or part in SYSTEM_FOLDERS for part in (*parents, name))
    if kind == "folder":
        return "system_file" if hidden else None
    image = name.endswith(IMAGE_SUFFIXES) or member.content == "image"
    nested = member.content == "archive" or name.endswith(ARCHIVE_SUFFIXES)
    tests = {
        "system_file": hidden or name in SYSTEM_FILES,
        "link": kind == "link",
        "special_file": kind == "special",
        "empty_file": not path or member.size == 0,
        "nested_archive": nested and not image,
        "format_unsupported": member.content == "unread",
        "not_an_image": not image,
        member.flaw: member.flaw is not None,
        "entry_too_large": member.size > limits.max_entry_bytes,
    }
    return next((code for code, failed in tests.items() if failed), None)


class _Seen(NamedTuple):
    """What is kept of a file's name; the name itself may be many times as long as its path."""

    path: str
    composed: bool
    name_hash: int


def _clash(name: str, kind: Kind, path: str, seen: dict[str, _Seen]) -> str | None:
    """Tell whether an earlier file's name could be taken for this one's."""
    if kind != "file":
        return None
    key = unicodedata.normalize("NFC", path.casefold())
    this = _Seen(path, unicodedata.is_normalized("NFC", name), hash(name))
    first = seen.setdefault(key, this)
    if first is this:
        return None
    if path != first.path:
        return "name_case_clash"
    same = (first.composed and this.composed) or this.name_hash == first.name_hash
    return "name_duplicate" if same else "name_unicode_clash"
