"""`topwork up`: the whole service as children of one supervisor on one machine."""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from app.http.bind import check_bind
from app.supervisor.console import Console
from app.supervisor.supervise import Service, Supervisor
from app.supervisor.valkey import broker
from core.child import python
from core.errors import TopworkError
from core.machine import NETWORK, filesystem
from core.settings import Settings

LONGEST_SOCKET = 100  # Bytes; the kernel's limit is 108 on Linux and 104 on macOS.
LONGEST_SOCKET_NAME = "predictor.sock"


class AlreadyRunning(TopworkError):
    """Another topwork runs on this data folder."""

    status, code = 409, "already_running"
    hint = "Use that one, stop it, or pass another --data-dir."


class PortInUse(TopworkError):
    """The port is taken."""

    status, code = 409, "port_in_use"
    hint = "Pass another --port, or --port 0 for a free one."


class MigrationFailed(TopworkError):
    """The database could not be brought up to date."""

    status, code = 503, "migration_failed"


class NetworkShare(TopworkError):
    """SQLite would lose rows on this file system."""

    status, code = 409, "network_share"
    hint = "Choose a local disk with --data-dir, or Postgres with TOPWORK_DATABASE_URL."


@dataclass(frozen=True)
class Plan:
    """Where and how large the local service is."""

    host: str = "127.0.0.1"
    port: int = 8000
    slots: int = 0  # Jobs at once; 0 means one for every four cores.

    @property
    def url(self) -> str:
        """Address for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - the two wildcards.
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def children(plan: Plan, settings: Settings) -> tuple[Service, ...]:
    """Return the api, worker and predictor in the order in which they stop.

    Their graces and the broker's add up to less than ten seconds, which is promised.
    """
    grace = ("--grace", "2")  # Shorter than those below.
    address = ("--host", plan.host, "--port", str(plan.port))
    slots = plan.slots or max(1, (os.cpu_count() or 1) // 4)
    return (
        Service(
            "api",
            python("-m", "app.main", *address, *grace).command,
            ready=lambda: _answers(_over_tcp(plan.url)),
            on_ready=f"ready at {plan.url} (API documentation: {plan.url}/docs)",
            grace=2.5,
        ),
        Service("worker", python("-m", "worker", "--slots", str(slots)).command, grace=3.5),
        Service(
            "predictor",
            python("-m", "app.predictor", *grace).command,
            ready=lambda: _answers(
                _over_tcp(settings.predictor_url)
                if settings.predictor_url
                else _UnixConnection(settings.predictor_socket)
            ),
            on_ready="predictor is ready",
            grace=2.5,
        ),
    )


def up(
    plan: Plan,
    settings: Settings,
    *,
    services: Callable[[Plan, Settings], tuple[Service, ...]] = children,
    supervisor: Supervisor | None = None,
) -> int:
    """Run everything until SIGINT or SIGTERM; return the exit code.

    Raises:
        NetworkShare: SQLite's file would lie on one.
        AlreadyRunning: Another instance holds the data folder.
        PortInUse: Something listens on the port.
        KeyRequired: The host is not loopback and no admin key is set.
        BrokerMissing: No broker URL is set and no server binary exists.
    """
    check_database_place(settings)
    supervisor = supervisor or Supervisor(Console())
    plan = claim_port(plan, settings)
    with lock_data_dir(settings.data_dir, plan), run_dir(settings) as private:
        if private != settings.run_dir:
            settings = settings.model_copy(update={"run_dir": private})
        with supervisor:
            supervise(supervisor, plan, settings, services)
            supervisor.console.say("stopping")
        supervisor.console.say("stopped")
    return 1 if supervisor.killed else 0


def supervise(
    supervisor: Supervisor,
    plan: Plan,
    settings: Settings,
    services: Callable[[Plan, Settings], tuple[Service, ...]],
) -> None:
    """Start the broker, bring the database up to date, then run the rest until told to stop."""
    url = settings.broker_url
    if not url:
        valkey, url = broker(settings.run_dir, settings.data_dir)
        supervisor.start([valkey])
    migrate(settings)
    supervisor.watch(until=supervisor.all_ready)
    if supervisor.stopping:
        return
    shared = {**environment(settings), "TOPWORK_BROKER_URL": url, "PYTHONUNBUFFERED": "1"}
    supervisor.start(
        replace(service, env={**shared, **service.env}) for service in services(plan, settings)
    )
    supervisor.watch()


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that make a child see the same folders."""
    return {
        "TOPWORK_DATA_DIR": str(settings.data_dir),
        "TOPWORK_RUN_DIR": str(settings.run_dir),
    }


def migrate(settings: Settings) -> None:
    """Bring the database up to date, in a process of its own: this one stays small.

    Raises:
        MigrationFailed: With the last line of what the process said.
    """
    child = python("-m", "core.migrate", env={**os.environ, **environment(settings)})
    done = subprocess.run(
        child.command,
        env=child.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        start_new_session=True,  # Ctrl-C lets it finish.
    )
    if done.returncode:
        raise MigrationFailed(done.stdout.strip().rpartition("\n")[2] or None)


def check_database_place(settings: Settings) -> None:
    """Refuse what loses rows without a word.

    Raises:
        NetworkShare: SQLite's file would lie on one.
    """
    kind, _, path = settings.database_url.partition(":///")
    if not kind.startswith("sqlite"):
        return
    place = Path(path.partition("?")[0]).resolve().parent
    if (share := filesystem(place)) in NETWORK:
        raise NetworkShare(f"SQLite is not safe on {place}, which is on a network share ({share}).")


def claim_port(plan: Plan, settings: Settings) -> Plan:
    """Return the plan with a port that was free a moment ago; 0 asks for any.

    Raises:
        KeyRequired: The host is not loopback and no admin key is set.
        PortInUse: Something listens there.
    """
    check_bind(plan.host, settings)
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((plan.host, plan.port))
        except OSError as error:
            raise PortInUse(
                f"Cannot listen on {plan.host}:{plan.port}: {error.strerror}."
            ) from None
        return Plan(plan.host, probe.getsockname()[1], plan.slots)


@contextlib.contextmanager
def lock_data_dir(data_dir: Path, plan: Plan) -> Iterator[None]:
    """Hold the data folder for this process; the kernel lets go however it ends.

    Raises:
        AlreadyRunning: Another process holds it.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "topwork.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = _whereabouts(lock.read())
            raise AlreadyRunning(f"Another topwork runs on {data_dir}{holder}.") from None
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "url": plan.url}))
        lock.flush()
        yield


def _whereabouts(holder: str) -> str:
    """Return what the process that holds the folder has written into its lock, in words."""
    try:
        known = json.loads(holder)
        return f" at {known['url']} (process {known['pid']})"
    except (ValueError, KeyError, TypeError):  # It has only just taken it.
        return ""


@contextlib.contextmanager
def run_dir(settings: Settings) -> Iterator[Path]:
    """Yield a private folder for sockets whose path is short enough for one."""
    if len(os.fsencode(settings.run_dir / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET:
        settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.run_dir.chmod(0o700)
        yield settings.run_dir
        return
    short = Path(tempfile.mkdtemp(prefix="topwork-"))
    try:
        yield short
    finally:
        shutil.rmtree(short, ignore_errors=True)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, for the predictor's probe."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=1)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _over_tcp(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=1)


def _answers(connection: http.client.HTTPConnection) -> bool:
    """Return whether GET /healthz gives 200."""
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
