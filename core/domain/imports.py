"""Models from elsewhere: the same file under the same name is taken in once."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.domain.exports import UNMADE
from core.store.tables import Job, ModelVersion
from topwork.kinds import JobKind, JobState


def earlier(session: Session, name: str, sha256: str) -> Job | None:
    """Return the job that takes in, or has taken in, this file under this name, if there is one.

    A job that failed or was cancelled does not count, nor one whose version was deleted. The caller
    is in line (`usage.in_line`), so of two at once the second finds the first.
    """
    wanted = select(Job).where(
        Job.kind == JobKind.IMPORT,
        Job.state.not_in(UNMADE),
        Job.config["name"].as_string() == name,
        Job.config["sha256"].as_string() == sha256,
    )
    found = session.scalars(wanted.order_by(Job.id.desc()).limit(1)).first()
    if found is None or found.state != JobState.SUCCEEDED:
        return found
    made = session.get(ModelVersion, (found.result or {}).get("model_version"))
    return None if made is None else found
