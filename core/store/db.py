"""The database: SQLite (WAL) on one machine, Postgres for several; one synchronous code path.

Reads use a plain BEGIN, writes BEGIN IMMEDIATE: a deferred SQLite transaction that upgrades from
read to write fails at once with SQLITE_BUSY_SNAPSHOT whatever the busy timeout is, and a read
that takes the write lock waits for every writer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Float, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError  # noqa: A004 - the pool's own.
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from core.store.row_access import Caller, OwnedSession
from core.store.sqlite_write_queue import turn
from core.system import failpoints
from core.system.atomic_files import make_folder

BUSY_TIMEOUT_MS = 10_000
# The database is away or busy. SQLAlchemy's other errors say that a statement is wrong, and a
# wrong statement stays wrong however often it is tried again.
AWAY = (OperationalError, InterfaceError, TimeoutError)


class db_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is.
    """The database's own clock in epoch seconds; leases never depend on a worker's clock."""

    type = Float()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(_element: db_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    # unixepoch('subsec') is NULL before SQLite 3.42, so julianday it is.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgres_now(_element: db_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


def is_full(error: Exception) -> bool:
    """Tell whether SQLite, Postgres or a storage says by this error that its disk is full."""
    said = str(error)
    return "disk is full" in said or "No space left" in said


def is_unsure(error: BaseException) -> bool:
    """Tell whether a commit may have taken effect although this was raised instead of an answer.

    A database that says that its disk is full has answered: nothing was committed.
    """
    cut = isinstance(error, DBAPIError) and error.connection_invalidated
    away = isinstance(error, AWAY) and not is_full(error)
    return cut or away or not isinstance(error, Exception)


class Database:
    """One engine and its two kinds of transaction.

    Args:
        url: SQLAlchemy URL, `sqlite:///...` or `postgresql+psycopg://...`.
        after_commit: Called after each committed write that set `session.info["ring"]`.
        patient: Let a statement take as long as it needs, as a migration of many rows does.
    """

    def __init__(
        self, url: str, after_commit: Callable[[], None] = lambda: None, *, patient: bool = False
    ) -> None:
        self.url = url
        self.engine = _make_engine(url, patient=patient)
        self._writing = self.engine.execution_options(topwork_write=True)
        self._after_commit = after_commit

    @contextmanager
    def read(self, caller: Caller | None = None) -> Iterator[Session]:
        """Open a session that never commits; with a caller it sees only what is the caller's."""
        info = {"caller": caller}
        with OwnedSession(self.engine, expire_on_commit=False, info=info) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Open a session that never commits and whose every statement sees the same moment."""
        with self.read() as session:
            if self.engine.dialect.name == "postgresql":
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def write(self, caller: Caller | None = None) -> Iterator[Session]:
        """Open a session that commits on success, rolls back on error and then rings.

        With a caller it sees only what is the caller's, and what it adds is the caller's.
        """
        info = {"caller": caller}
        with OwnedSession(self._writing, expire_on_commit=False, info=info) as session:
            with session.begin():
                yield session
            if session.info.get("ring"):
                failpoints.hit("db.before_ring")
                self._after_commit()

    def close(self) -> None:
        """Close pooled connections."""
        self.engine.dispose()


def _make_engine(url: str, *, patient: bool) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        from core.store.postgres import never_wait_forever  # noqa: PLC0415 - SQLite needs no psycopg.

        engine = create_engine(parsed, pool_pre_ping=True, pool_size=20, max_overflow=20)
        never_wait_forever(engine, patient=patient)
        return engine
    make_folder(Path(parsed.database or "").parent)
    engine = create_engine(
        parsed, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000}, pool_size=20, max_overflow=40
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is emitted below, not by the driver.
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    if not connection.get_execution_options().get("topwork_write", False):
        connection.exec_driver_sql("BEGIN")
        return
    with turn(Path(f"{connection.engine.url.database}-turn")):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
