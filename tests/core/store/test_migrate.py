"""The last line of a migration that cannot be, as that is all that an orchestrator shows."""

import subprocess
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from core.store.db import Database
from core.store.migrate import AWAY_CODE, CannotMigrate, may_come, upgrade
from core.system.addresses import sqlite_url
from core.system.child import python


def last_words(url: str, folder: Path, code: int = 1) -> str:
    env = {"TOPWORK_DATABASE_URL": url, "TOPWORK_DATA_DIR": str(folder)}
    child = python("-m", "core.store.migrate", env=env)
    done = subprocess.run(
        child.command, env=child.env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done
    return done.stderr.strip().rpartition("\n")[2]


def test_a_server_that_is_away_is_named_without_the_password(tmp_path: Path) -> None:
    words = last_words("postgresql+psycopg://me:s3cret@127.0.0.1:1/x", tmp_path, AWAY_CODE)
    assert words.startswith("cannot migrate: the database does not answer or refuses")
    assert "TOPWORK_DATABASE_URL" in words
    assert "s3cret" not in words


def test_a_later_schema_is_left_alone(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "later.db")
    upgrade(url)
    database = Database(url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    words = last_words(url, tmp_path)
    assert "revision 9999" in words
    assert "a later one" in words


def test_an_encoding_that_cannot_hold_every_name_is_refused(postgres: str) -> None:
    admin = Database(postgres)
    run = admin.engine.execution_options(isolation_level="AUTOCOMMIT").connect()
    run.execute(text("DROP DATABASE IF EXISTS ascii_only"))
    ascii_only = "ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
    run.execute(text(f"CREATE DATABASE ascii_only {ascii_only}"))
    url = make_url(postgres).set(database="ascii_only").render_as_string(hide_password=False)
    try:
        with pytest.raises(CannotMigrate, match="encoding SQL_ASCII"):
            upgrade(url)
    finally:
        run.execute(text("DROP DATABASE ascii_only WITH (FORCE)"))
        run.close()
        admin.close()


@pytest.mark.parametrize(
    ("why", "comes"),
    [
        (
            'connection failed: connection to server at "::1" failed: Connection refused',
            True,
        ),
        ("failed to resolve host 'postgres': [Errno -2] Name or service not known", True),
        ("connection timeout expired", True),
        ("connection failed: FATAL: the database system is starting up", True),
        ("connection failed: FATAL: sorry, too many clients already", True),
        ('connection failed: FATAL: password authentication failed for user "me"', False),
        ('connection failed: FATAL: database "x" does not exist', False),
        ("unable to open database file", False),
    ],
)
def test_what_may_pass_is_told_from_what_stays(why: str, *, comes: bool) -> None:
    assert may_come(why) is comes
