"""Unpack an archive into shards and a manifest for batch prediction: every file once, as it is.

Nothing is decoded, and no image is left out for its label or for being a copy; one that cannot be
read gets a line that says why. `python -P -m core.ingest.unpack QUESTION` is a child of
`worker.kinds.predict`: it reads a stranger's file.
"""

import hashlib
import json
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.ingest.archive import MEBIBYTE, Limits, Plan, Refusal, by_status, plan
from core.ingest.containers import open_container
from core.ingest.shards import Address, ShardWriter
from core.ingest.tables.gather import Tables, gather
from core.ingest.upload_reading import read_upload
from core.system import disk, json_child
from core.system.tether import die_with_parent
from topwork.errors import DatasetInvalid, LayoutAmbiguous, LayoutMismatch
from topwork.kinds import NameEncoding, ReportStatus

MEMORY_BYTES = 2048 * MEBIBYTE  # Address space: one member is held at a time, and all names.
NO_IMAGE = "not_an_image"
Line = dict[str, Any]


def unpack(
    archive: Path,
    folder: Path,
    limits: Limits,
    name_encoding: NameEncoding | None = None,
    reserve: int = 0,
) -> dict[str, Any]:
    """Write `manifest.jsonl` and `shards/` into an existing folder.

    A line has `path`, `class` and `split`, and either `sha256`, `shard`, `offset` and `length` or
    an `error`. The class is null where folders and tables name none, or folders a single one.

    Returns:
        The manifest's SHA-256 as `sha256`, under `skipped` the files that are no images, and as
        `damage` why the rest of the archive could not be read, or null.

    Raises:
        ArchiveUnreadable, ArchiveTooLarge, NameEncodingUnknown: The archive as a whole is refused.
        DatasetInvalid: There is no image in it.
        DiskFull: What is in it finds no room beside `reserve` bytes.
    """
    with archive.open("rb") as file:
        container = open_container(file, limits)
        planned = plan(container.members(), limits, name_encoding)
        disk.require(folder, planned.expanded_bytes, reserve)
        classes, left_over = _classes(planned, gather(container, planned))
        names: dict[int, list[str]] = {}
        for index, path in planned.files.items():
            names.setdefault(planned.copies.get(index, index), []).append(path)
        shards = ShardWriter(folder / "shards")
        stored: dict[str, Address] = {}
        read: list[tuple[str, str]] = []  # Path and sha256.
        unread: list[Refusal] = []
        for index, content in container.contents(names):
            if isinstance(content, str):
                unread += [Refusal(path, content) for path in names[index]]
                continue
            sha256 = hashlib.sha256(content).hexdigest()
            if sha256 not in stored:
                stored[sha256] = shards.add(sha256, "image", content)
            read += [(path, sha256) for path in names[index]]
        shards.close()
    refused = [it for it in planned.refusals if it.status is ReportStatus.REJECTED]
    lines = [
        *_lines(read, stored, shards.names, classes),
        *(_error_line(it, classes) for it in [*unread, *refused]),
    ]
    if not lines:
        raise DatasetInvalid("There is no image in the archive.", hint="Send at least one image.")
    manifest = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    (folder / "manifest.jsonl").write_bytes(manifest)
    skipped = by_status([*planned.refusals, *left_over])[ReportStatus.SKIPPED]
    sha256 = hashlib.sha256(manifest).hexdigest()
    return {"sha256": sha256, "skipped": skipped, "damage": container.damage}


def _classes(planned: Plan, tables: Tables) -> tuple[Mapping[str, str], list[Refusal]]:
    """Return the class of each path that has one, and the texts that are no tables of labels.

    Where there are two readings, no path has a class. Nor has any where all folders name the same
    one, which is mostly the name of a collection.

    Whether a name is a class of the model is not known here.
    """
    try:
        reading = read_upload(planned, tables=tables)
    except (LayoutAmbiguous, LayoutMismatch, DatasetInvalid):
        return {}, [Refusal(path, NO_IMAGE) for path, _ in planned.tables.values()]
    classes = {path: place.class_name for path, place in reading.places.items()}
    if not reading.tables and len(set(classes.values())) == 1:
        classes = {}
    return classes, [one for one in reading.refusals if one.code == NO_IMAGE]


def _lines(
    read: list[tuple[str, str]],
    stored: Mapping[str, Address],
    shards: list[str],
    classes: Mapping[str, str],
) -> Iterator[Line]:
    for path, sha256 in read:
        address = stored[sha256]
        yield {
            "path": path,
            "class": classes.get(path),
            "split": None,
            "sha256": sha256,
            "shard": shards[address.shard],
            "offset": address.offset,
            "length": address.length,
        }


def _error_line(refusal: Refusal, classes: Mapping[str, str]) -> Line:
    error = {"code": refusal.code, "message": refusal.message}
    return {
        "path": refusal.path,
        "class": classes.get(refusal.path),
        "split": None,
        "error": error,
    }


def main(asked: str) -> None:
    """Answer one question on standard output.

    Args:
        asked: `{archive, folder, limits, name_encoding, reserve, parent}` as JSON.
    """
    question = json.loads(asked)
    die_with_parent(question["parent"])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    archive, folder = Path(question["archive"]), Path(question["folder"])
    limits, encoding = Limits(**question["limits"]), question["name_encoding"]
    reserve = question["reserve"]
    json_child.answer(lambda: unpack(archive, folder, limits, encoding, reserve))


if __name__ == "__main__":
    main(sys.argv[1])
