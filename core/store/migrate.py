"""Migrate a database to the newest schema: `python -P -m core.store.migrate`.

Its last line says what is wrong where it cannot: an orchestrator shows no more of it.
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core.store.db import AWAY, Database
from core.system import process_start
from core.system.secrets import redact
from core.system.settings import read_settings

ENCODING = "UTF8"
AWAY_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same may succeed a moment later.
ANSWERED = "FATAL:"  # Postgres refuses a connection so; and so while it starts or ends.
FOR_NOW = ("starting up", "shutting down", "recovery", "too many", "remaining connection slots")


class CannotMigrate(Exception):
    """A database that no repetition brings up to date; the words say why, and what to do."""


def upgrade(url: str) -> None:
    """Apply every migration that a database lacks, in one transaction each.

    Raises:
        CannotMigrate: It is of a later version, or cannot hold every text.
    """
    config = configuration(url)
    try:
        _check(config)
        command.upgrade(config, "head")
    finally:
        config.attributes["database"].close()


def configuration(url: str) -> Config:
    """Return Alembic's configuration for one database; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["database"] = Database(url, patient=True)
    return config


def _check(config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    database: Database = config.attributes["database"]
    with database.engine.connect() as connection:
        if database.engine.dialect.name == "postgresql":
            encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
            if encoding != ENCODING:
                message = (
                    f"the database has the encoding {encoding}, which cannot hold every name;"
                    f" make one with ENCODING '{ENCODING}' (CREATE DATABASE), or a new cluster"
                    f" with `initdb --encoding {ENCODING}`"
                )
                raise CannotMigrate(message)
        current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        message = (
            f"the database is at revision {current}, which this version does not know: a later one"
            " has migrated it; install that one again, or restore a backup"
        )
        raise CannotMigrate(message)


def may_come(why: str) -> bool:
    """Tell whether Postgres may let us in later: it is away, or starts; a wrong password stays."""
    from_network = "connection" in why or "resolve" in why
    return from_network and (ANSWERED not in why or any(words in why for words in FOR_NOW))


def main() -> None:
    """Migrate the database of this process's settings, or end with one line."""
    try:
        upgrade(read_settings().database_url)
    except CannotMigrate as error:
        sys.exit(f"cannot migrate: {error}")
    except AWAY as error:
        why = redact(" ".join(str(error.orig if hasattr(error, "orig") else error).split()))
        sys.stderr.write(
            f"cannot migrate: the database does not answer or refuses ({why}); start it, or"
            " correct TOPWORK_DATABASE_URL and its password\n"
        )
        sys.exit(AWAY_CODE if may_come(why) else 1)
    except SQLAlchemyError as error:
        sys.exit(f"cannot migrate: {redact(' '.join(str(error).split()))}")


if __name__ == "__main__":
    process_start.begin()
    main()
