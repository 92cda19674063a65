import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select

from core import jobs, leases
from core.db import Database, db_now
from core.migrate import upgrade
from core.tables import Job, Row


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/topwork.db"
    else:
        url = request.getfixturevalue("postgres")
    upgrade(url)
    opened = Database(url)
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


def test_the_databases_clock_runs_in_seconds(database: Database) -> None:
    with database.read() as session:
        assert session.execute(select(db_now())).scalar_one() == pytest.approx(time.time(), abs=5)


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError):
        submit_and_fail(database)
    with database.read() as session:
        assert session.scalars(select(Job)).all() == []


def test_the_bell_rings_after_the_commit_only(tmp_path: Path, migrated: Path) -> None:
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
                job = leases.claim(session, owner, 30)
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
