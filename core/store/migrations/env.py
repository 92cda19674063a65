"""Alembic's entry: run migrations on the database handed over by `core.store.migrate`."""

from alembic import context

from core.store.db import Database
from core.store.tables import Row

LOCK = 8_021_126  # Any constant: replicas that start together migrate one after the other.

database: Database = context.config.attributes["database"]
try:
    with database.write() as session:
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        context.configure(connection=connection, target_metadata=Row.metadata, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
finally:
    database.close()
