import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Engine, inspect, select, text

from core.domain import jobs
from core.store.db import Database, db_now
from core.store.migrate import configuration, upgrade
from core.store.tables import (
    Dataset,
    IdempotencyKey,
    Job,
    JobEvent,
    Model,
    ModelCounter,
    ModelVersion,
    Row,
)
from tests.claims import claim_best


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/topwork.db"
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def database(empty: str) -> Iterator[Database]:
    upgrade(empty)
    opened = Database(empty)
    yield opened
    opened.close()


def columns(engine: Engine) -> dict[str, set[str]]:
    found = inspect(engine)
    names = [name for name in found.get_table_names() if name != "alembic_version"]
    return {name: {column["name"] for column in found.get_columns(name)} for name in names}


def submit_and_fail(database: Database) -> None:
    with database.write() as session:
        jobs.submit(session, kind="finetune", config={})
        raise RuntimeError


def test_migrations_make_the_tables_of_the_code(database: Database) -> None:
    declared = {
        name: {column.name for column in table.columns}
        for name, table in Row.metadata.tables.items()
    }
    assert columns(database.engine) == declared
    upgrade(database.url)


FIRST_ROWS = """
INSERT INTO dataset (id, name, state, user_metadata, created_at)
VALUES ('ds_1', 'pets', 'ready', '{}', 1.0);
INSERT INTO job (id, kind, state, priority, config, user_metadata, attempt, fence, owner,
last_step, step_at_claim, stalls, progress, last_seq, created_at, dataset_id)
VALUES ('job_1', 'finetune', 'running', 1, '{}', '{}', 1, 1, 'box/1', 5, 3, 2, 0.0, 1, 1.0, 'ds_1');
INSERT INTO job_event (job_id, seq, at, fence, kind, data)
VALUES ('job_1', 1, 1.0, 1, 'state', '{}');
INSERT INTO model (name, user_metadata, created_at) VALUES ('pets', '{}', 1.0);
INSERT INTO model_version (id, name, number, job_id, digest, prefix, files, card, created_at)
VALUES ('mv_1', 'pets', 1, 'job_1', 'd', 'p', '{}', '{}', 1.0);
INSERT INTO idempotency_key (key, request_hash, created_at) VALUES ('k', 'h', 1.0)
"""


def test_rows_from_before_owners_get_the_default_one(empty: str) -> None:
    command.upgrade(configuration(empty), "0001")
    database = Database(empty)
    with database.write() as session:
        for row in FIRST_ROWS.split(";"):
            session.execute(text(row))
    for _ in range(2):
        upgrade(empty)
        with database.read() as session:
            job = session.get_one(Job, "job_1")
            assert (job.owner, job.worker, job.state) == ("default", "box/1", "running")
            assert (job.last_step, job.progressed) == (5, True)
            assert (job.stalls, job.losses, job.shortages, job.fault) == (0, 0, 0, None)
            assert session.get_one(Dataset, "ds_1").owner == "default"
            assert session.get_one(Model, "pets").owner == "default"
            assert session.get_one(JobEvent, ("job_1", 1)).kind == "state"
            assert session.get_one(ModelVersion, "mv_1").job_id == "job_1"
            assert session.get_one(ModelCounter, "pets").last_number == 1
            assert session.get_one(IdempotencyKey, "default/k").request_hash == "h"
        database.engine.dispose()
        command.downgrade(configuration(empty), "0001")
        with database.read() as session:
            assert session.execute(text("SELECT owner FROM job")).scalar_one() == "box/1"
            assert session.execute(text("SELECT key FROM idempotency_key")).scalar_one() == "k"
        database.engine.dispose()
    database.close()


def test_the_databases_clock_runs_in_seconds(database: Database) -> None:
    with database.read() as session:
        assert session.execute(select(db_now())).scalar_one() == pytest.approx(time.time(), abs=5)


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError):
        submit_and_fail(database)
    with database.read() as session:
        assert session.scalars(select(Job)).all() == []


def test_the_bell_rings_after_the_commit_only(tmp_path: Path, migrated: Path) -> None:
    database: Database
    heard: list[int] = []

    def ring() -> None:
        with database.read() as session:
            heard.append(len(session.scalars(select(Job)).all()))

    copy = shutil.copy(migrated, tmp_path / "topwork.db")
    database = Database(f"sqlite:///{copy}", after_commit=ring)
    with database.write() as session:
        jobs.submit(session, kind="finetune", config={})
        assert heard == []
    with pytest.raises(RuntimeError):
        submit_and_fail(database)
    assert heard == [1]
    database.close()


def test_racing_workers_claim_each_job_once(database: Database) -> None:
    with database.write() as session:
        wanted = {jobs.submit(session, kind="finetune", config={}).id for _ in range(60)}
    taken: list[str] = []

    def work(owner: str) -> None:
        while True:
            with database.write() as session:
                job = claim_best(session, owner, 30)
            if job is None:
                return
            taken.append(job.id)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # A claimer that met only rows held by others saw none and left; nothing is claimed twice.
    assert len(taken) == len(set(taken))
    assert set(taken) == wanted
