"""Claims as a worker makes them that has room for everything."""

from sqlalchemy.orm import Session

from core.domain import leases
from core.store.tables import Job


def claim_best(session: Session, owner: str = "me", seconds: float = 30.0) -> Job | None:
    """Claim the first job of the queue in the caller's transaction."""
    seen = leases.best(session)
    return None if seen is None else leases.claim(session, seen, owner, seconds)
