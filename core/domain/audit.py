"""Audit log: rows that are only added, each with a digest that covers those before it.

An entry's digest is the SHA-256 of the digest before it, a line feed, and the entry's fields as
JSON with sorted names and no spaces. So an entry that is changed, taken out or put in between
breaks the chain, for everybody who has an export or remembers one later digest. Whoever can write
to the database can make a whole new chain; only a digest kept elsewhere tells.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.store.db import db_now
from core.store.row_access import Caller
from core.store.tables import AuditEntry, AuditHead
from core.system.secrets import redact
from topwork.errors import AuditBroken

LONGEST = 300
FIELDS = (
    "seq", "at", "owner", "key", "address", "action", "object", "status", "request_id",
)  # fmt: skip
ONLY = 1  # The id of the one row that holds the newest digest.


def append(
    session: Session, caller: Caller | None, *, action: str, thing: str, status: int
) -> AuditEntry:
    """Add an entry in the caller's transaction; others who add wait until it has ended."""
    head = session.execute(
        select(AuditHead).where(AuditHead.id == ONLY).with_for_update()
    ).scalar_one_or_none()
    if head is None:
        raise AuditBroken("the row that names the newest entry of the audit log is missing")
    now = datetime.fromtimestamp(session.execute(select(db_now())).scalar_one(), UTC)
    row = AuditEntry(
        seq=head.seq + 1,
        at=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        owner=caller.owner if caller else None,
        key=caller.key if caller else None,
        address=(caller.address if caller else "")[:LONGEST],
        action=action[:LONGEST],
        object=redact(thing)[:LONGEST],
        status=status,
        request_id=caller.request if caller else "",
    )
    row.digest = seal(head.digest, {name: getattr(row, name) for name in FIELDS})
    head.seq, head.digest = row.seq, row.digest
    session.add(row)
    session.flush()
    return row


def seal(before: str, entry: dict[str, Any]) -> str:
    """Return the digest of an entry behind the one with the digest `before`."""
    fields = {name: entry[name] for name in FIELDS}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def page(session: Session, *, limit: int = 100, after: int = 0) -> tuple[list[AuditEntry], bool]:
    """Return up to `limit` entries behind number `after`, oldest first, and whether more follow."""
    wanted = select(AuditEntry).where(AuditEntry.seq > after).order_by(AuditEntry.seq)
    rows = list(session.scalars(wanted.limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def head(session: Session) -> AuditHead:
    """Return number and digest of the newest entry; 0 and nothing where there is none."""
    return session.execute(select(AuditHead).where(AuditHead.id == ONLY)).scalar_one()


def verify(entries: Iterable[dict[str, Any]], newest: dict[str, Any] | None = None) -> int:
    """Return how many entries there are, from the first on.

    Args:
        entries: As exported, oldest first.
        newest: Number and digest that one of the entries must have, unless the number is 0.

    Raises:
        AuditBroken: An entry was changed, is missing, or was added later.
    """
    before, count = "", 0
    owed = newest if newest and newest["seq"] else None
    for count, entry in enumerate(entries, 1):
        if entry["seq"] != count or entry["digest"] != seal(before, entry):
            raise AuditBroken(f"the log is not as it was written from entry {count} on")
        before = entry["digest"]
        if owed and owed["seq"] == count and owed["digest"] == before:
            owed = None
    if owed:
        raise AuditBroken(f"the log ends before its entry {owed['seq']}, or has another one there")
    return count
