"""Look into an archive without opening an image: `python -P -m core.ingest.dry_run ASKED`.

ASKED is JSON (`ask`). The one line that is printed is the summary that ingestion would give, as far
as names tell it, or the error that ingestion would end with. The archive is a stranger's, so this
is a process of its own, with little memory and an alarm that ends it.
"""

import json
import os
import resource
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.ingest.archive import MEBIBYTE, Limits, by_status, plan
from core.ingest.containers import open_container
from core.ingest.curate import Stored, check_usable, curate, guessed
from core.ingest.decoders import DecodeResult
from core.ingest.manifest import count, examine
from core.ingest.shards import Address
from core.ingest.split import Ratios
from core.ingest.split_folders import LayoutAnswer
from core.ingest.tables.gather import gather
from core.ingest.upload_reading import read_upload
from core.system import json_child
from topwork.errors import ArchiveTooLarge
from topwork.kinds import Split

MEMORY_BYTES = (
    1024 * MEBIBYTE
)  # Address space; 200 000 members with long names take two thirds of it.
UNSEEN = Stored(DecodeResult(), Address(0, 0, 0))  # No image is opened here.
NOT_ASKED: Mapping[str, Any] = {}
NICENESS = 10  # Serving goes first.


def summarise(
    archive: Path, limits: Limits, ratios: Ratios, answers: Mapping[str, Any] = NOT_ASKED
) -> dict[str, Any]:
    """Read an archive's list of members as `dataset.json` would, before any image is opened.

    Raises:
        ArchiveUnreadable, ArchiveTooLarge, LayoutAmbiguous: What the ingestion would say.
        LayoutMismatch, NameEncodingUnknown, ArchiveUnsafe, DatasetInvalid, TooFewClasses: Likewise.
    """
    with archive.open("rb") as file:
        container = open_container(file, limits)
        planned = plan(container.members(), limits, answers.get("name_encoding"))
        tables = gather(container, planned)
    reading = read_upload(planned, LayoutAnswer.of(answers), tables, ratios.group_column)
    # A path stands for the content that is not known yet.
    images = ((path, path) for path in reading.places)
    unseen: Mapping[str, Stored] = defaultdict(lambda: UNSEEN)
    curated = curate(images, unseen, [""], reading, ratios, planned.refusals)
    check_usable(curated.lines, curated.refusals)
    findings = [
        *guessed(planned.guess),
        *curated.findings,
        *examine(curated.lines, {}, curated.near, curated.missed),
    ]
    counts = count(curated.lines)
    return {
        "classes": list(counts[Split.TRAIN]),
        "counts": counts,
        "drawn": curated.drawn,
        "findings": [found.to_dict() for found in findings],
        **by_status(curated.refusals),
    }


def main(asked: str) -> None:
    """Answer one question on standard output.

    Args:
        asked: `{archive, limits, ratios, answers, seconds}` as JSON.
    """
    question = json.loads(asked)
    # Its signal is left to its default action, which also ends code that never returns to Python,
    # and ends this process in time where whoever asked has died.
    signal.setitimer(signal.ITIMER_REAL, question["seconds"])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    json_child.answer(lambda: _look(question))


def _look(question: dict[str, Any]) -> dict[str, Any]:
    archive, limits = Path(question["archive"]), Limits(**question["limits"])
    try:
        return summarise(archive, limits, Ratios(**question["ratios"]), question["answers"])
    except MemoryError:
        raise ArchiveTooLarge("The list of members takes too much memory.") from None


if __name__ == "__main__":
    main(sys.argv[1])
