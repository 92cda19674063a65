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
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from core.ingest.archive import MEBIBYTE, Limits, by_status, plan
from core.ingest.containers import open_container
from core.ingest.layout import Reading, read_layout
from core.ingest.split import Ratios, assign
from core.system import json_child
from topwork.errors import ArchiveTooLarge, DatasetInvalid, TooFewClasses
from topwork.kinds import Split

MEMORY_BYTES = 1024 * MEBIBYTE  # Address space; 200 000 members with long names take half of it.
NICENESS = 10  # Serving goes first.


def summarise(archive: Path, limits: Limits, ratios: Ratios) -> dict[str, Any]:
    """Read an archive's list of members as `dataset.json` would, before any image is opened.

    Raises:
        ArchiveUnreadable, ArchiveTooLarge, LayoutAmbiguous: What the ingestion would say.
        DatasetInvalid, TooFewClasses: Likewise.
    """
    with archive.open("rb") as file:
        container = open_container(file, limits)
        planned = plan(container.members(), limits)
    reading = read_layout(planned.files.values(), planned.folders)
    classes = sorted({place.class_name for place in reading.places.values()})
    if not classes:
        raise DatasetInvalid
    if len(classes) == 1:
        raise TooFewClasses(f"All images belong to one class, {classes[0]!r}.")
    return {
        "classes": classes,
        "counts": _counts(reading, ratios),
        **by_status([*planned.refusals, *reading.refusals]),
    }


def _counts(reading: Reading, ratios: Ratios) -> dict[str, dict[str, int]]:
    """Return split -> class -> images; paths stand for the content that is not known yet."""
    given = reading.splits
    missing = Ratios(
        val=0.0 if Split.VAL in given else ratios.val,
        test=0.0 if Split.TEST in given else ratios.test,
        seed=ratios.seed,
    )
    trainable = defaultdict(list)
    for path, place in reading.places.items():
        if place.split in {None, Split.TRAIN}:
            trainable[place.class_name].append(path)
    drawn = assign(trainable, missing)
    pairs = Counter(
        (drawn.get(path, place.split or Split.TRAIN), place.class_name)
        for path, place in reading.places.items()
    )
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for (split, name), images in sorted(pairs.items()):
        counts[split][name] = images
    return dict(counts)


def main(asked: str) -> None:
    """Answer one question on standard output.

    Args:
        asked: `{archive, limits, ratios, seconds}` as JSON.
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
        return summarise(archive, limits, Ratios(**question["ratios"]))
    except MemoryError:
        raise ArchiveTooLarge("The list of members takes too much memory.") from None


if __name__ == "__main__":
    main(sys.argv[1])
