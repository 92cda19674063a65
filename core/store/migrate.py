"""Migrate a database to the newest schema: `python -P -m core.store.migrate`."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from core.store.db import Database
from core.system import process_start
from core.system.settings import Settings


def upgrade(url: str) -> None:
    """Apply every migration that a database lacks, in one transaction each."""
    command.upgrade(configuration(url), "head")


def configuration(url: str) -> Config:
    """Return Alembic's configuration for one database; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["database"] = Database(url, patient=True)
    return config


if __name__ == "__main__":
    process_start.begin()
    upgrade(Settings().database_url)
