import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from core.domain import datasets, jobs, registry
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


def test_a_default_name_joins_no_unrelated_data(database: Database) -> None:
    with database.write() as session:
        for dataset_id, name in (("ds_a", "archive"), ("ds_b", "archive-2"), (None, "pets")):
            card = {"dataset": {"id": dataset_id}} if dataset_id else {}
            place: dict[str, Any] = {"job_id": None, "digest": "d", "prefix": "p", "files": {}}
            registry.publish(session, name=name, card=card, **place)
        dataset = datasets.create(session, name="archive", upload=None, metadata={})
        config = {"name": "archive-3"}
        jobs.submit(session, kind="finetune", config=config, dataset_id=dataset.id)
        names = {
            other: registry.default_name(session, "archive", other)
            for other in ("ds_a", dataset.id, "ds_c", None)
        }
        assert names == {
            "ds_a": "archive",
            dataset.id: "archive-3",
            "ds_c": "archive-4",
            None: "archive-4",
        }
        assert registry.default_name(session, "pets", "ds_a") == "pets-2"
        assert registry.default_name(session, "arch_ve", "ds_a") == "arch_ve"
