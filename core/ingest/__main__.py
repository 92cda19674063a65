"""Turn an archive into verified shards, a manifest and a report: `python -P -m core.ingest`.

Plan over the list of members, read the layout, stream member by member through the decoders into
shards, settle duplicates and the split, publish. Nothing is written outside RUN_DIR.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.imaging.decode import DEFAULT_LIMITS
from core.imaging.findings import FINDINGS
from core.ingest.archive import Limits, Member, plan
from core.ingest.containers import Container, open_container
from core.ingest.curate import check_usable, curate, guessed
from core.ingest.decoders import Decoders
from core.ingest.manifest import Finding, encode, examine, json_line, report, summarise
from core.ingest.shards import ShardWriter
from core.ingest.split import Ratios
from core.ingest.split_folders import LayoutAnswer
from core.ingest.stream import Stream
from core.ingest.tables.gather import gather
from core.ingest.upload_reading import read_upload
from core.system import disk
from core.system.machine import cores
from core.system.progress import Meter
from core.system.run_dir import RunDir, supervise
from topwork.errors import QuotaExceeded
from topwork.kinds import Phase, Severity


def ingest(run: RunDir) -> None:
    """Do the whole job that `request.json` describes.

    Raises:
        TopworkError: The archive as a whole cannot be used; single bad files are only reported.
    """
    request = json.loads(run.request())
    ratios = Ratios(**request.get("split", {}))
    answers = request.get("answers", {})
    asked = dict(request.get("limits", {}))
    max_pixels = asked.pop("max_image_pixels", DEFAULT_LIMITS.max_pixels)
    limits = Limits(**asked)
    folder = run.begin_result()
    run.events.phase(Phase.PLANNING)
    with Path(request["archive"]).open("rb") as file:
        container = open_container(file, limits)
        planned = plan(_list(run, container), limits, answers.get("name_encoding"))
        tables = gather(container, planned)
        reading = read_upload(planned, LayoutAnswer.of(answers), tables, ratios.group_column)
        _check_room(folder, planned.expanded_bytes, request)
        wanted: dict[int, list[str]] = {}
        for index, path in planned.files.items():
            if path in reading.places:
                wanted.setdefault(planned.copies.get(index, index), []).append(path)
        run.events.phase(Phase.DECODING)
        shards = ShardWriter(folder / "shards")
        with Decoders(cores(), max_pixels) as decoders:
            stream = _decode(run, container, wanted, Stream(decoders, shards))
    run.events.phase(Phase.PUBLISHING)
    files, unread = stream.outcome()
    refused = [*planned.refusals, *unread]
    curated = curate(files, stream.stored, shards.names, reading, ratios, refused)
    refusals = curated.refusals
    check_usable(curated.lines, refusals)
    damage = (
        [Finding("archive_damaged", Severity.ERROR, container.damage, ("(archive)",))]
        if container.damage
        else []
    )
    findings = [
        *damage,
        *guessed(planned.guess),
        *curated.findings,
        *examine(curated.lines, FINDINGS, curated.near, curated.missed),
    ]
    manifest = encode(curated.lines)
    (folder / "manifest.jsonl").write_bytes(manifest)
    (folder / "report.jsonl").write_bytes(report(findings, refusals))
    summary = summarise(
        curated.lines,
        findings,
        refusals,
        encoded=manifest,
        drawn=curated.drawn,
        lost=curated.lost,
        tables=reading.tables,
        answers=answers,
    )
    (folder / "dataset.json").write_text(json_line(summary), encoding="utf-8")
    run.publish_result(folder)


def _list(run: RunDir, container: Container) -> Iterator[Member]:
    for member in container.members():
        run.events.alive()
        yield member


def _decode(
    run: RunDir, container: Container, wanted: Mapping[int, list[str]], stream: Stream
) -> Stream:
    meter = Meter(run.events, {Phase.DECODING: (len(wanted), 1.0)})
    for done, (index, content) in enumerate(container.contents(wanted), 1):
        stream.add(wanted[index], content)
        meter.at(Phase.DECODING, done)
    stream.finish()
    return stream


def _check_room(folder: Path, wanted: int, request: Mapping[str, Any]) -> None:
    """Hold what is going to be stored against the owner's quota and the disk."""
    room = request.get("room")
    if room is not None and wanted > room:
        raise QuotaExceeded(f"The images take {wanted} bytes unpacked; you may store {room} more.")
    disk.require(folder, wanted, request.get("reserve", 0))


if __name__ == "__main__":
    sys.exit(supervise(ingest, sys.argv[1:]))
