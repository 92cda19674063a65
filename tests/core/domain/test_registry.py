import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from core.domain import jobs, registry
from core.store.db import Database
from core.store.migrate import upgrade
from core.store.tables import ModelVersion


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated database of each kind."""
    file = f"sqlite:///{tmp_path}/topwork.db"
    url = file if request.param == "sqlite" else request.getfixturevalue("postgres")
    upgrade(url)
    opened = Database(url)
    yield opened
    opened.close()


def publish(session: Session) -> ModelVersion:
    job = jobs.submit(session, kind="finetune", config={})
    return registry.publish(
        session, name="new", job_id=job.id, digest="d", prefix="p", files={}, card={}
    )


def test_two_jobs_may_publish_a_new_name_at_once(database: Database) -> None:
    numbers: list[int] = []

    def second() -> None:
        with database.write() as session:
            numbers.append(publish(session).number)

    thread = threading.Thread(target=second)
    with database.write() as session:
        numbers.append(publish(session).number)
        thread.start()
        thread.join(0.3)  # It waits for us, on either database.
        assert numbers == [1]
    thread.join(20)
    assert numbers == [1, 2]
