"""Read the tables of an upload out of its archive."""

from collections import Counter
from dataclasses import dataclass, field

from core.ingest.archive import Plan
from core.ingest.containers import Container
from core.ingest.tables.sheet import MAX_BYTES, Sheet, parse

# Of one suffix; where there are more, as beside each image, they are none.
MOST_TABLES = 50


@dataclass(slots=True)
class Tables:
    """What stands in the tables, by path, and why a file that looks like one is not read."""

    sheets: dict[str, Sheet] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def gather(container: Container, planned: Plan) -> Tables:
    """Parse the files that may be tables; the bytes of all together are bounded.

    Those of a suffix that too many have are told by the first of them.
    """
    found = Tables()
    wanted, room = {}, MAX_BYTES
    counts = Counter(_suffix(path) for path, _ in planned.tables.values())
    told: set[str] = set()
    for index, (path, size) in planned.tables.items():
        suffix = _suffix(path)
        if counts[suffix] > MOST_TABLES:
            if suffix not in told:
                found.broken[path] = f"there are {counts[suffix]} files .{suffix}, too many to read"
            told.add(suffix)
            continue
        if size > room:
            found.broken[path] = f"the tables are larger than {MAX_BYTES} bytes together"
        else:
            room -= size
            wanted[index] = path
    for index, content in container.contents(wanted) if wanted else ():
        path = wanted[index]
        if isinstance(content, str):
            found.broken[path] = "its bytes are damaged"
            continue
        try:
            sheet = parse(path, content)
        except ValueError as error:
            found.broken[path] = str(error)[:200]
            continue
        if sheet is not None and sheet.rows:
            found.sheets[path] = sheet
    return found


def _suffix(path: str) -> str:
    return path.lower().rpartition(".")[2]
