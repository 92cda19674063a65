"""`topwork up`: the whole service as children of one supervisor on one machine."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

from app.asgi.bind import check_bind
from app.supervisor.console import Console, missing
from app.supervisor.listening import listening
from app.supervisor.process import Service
from app.supervisor.supervise import ChildFailed, Supervisor
from app.supervisor.valkey import broker
from core.store.migrate import AWAY_CODE
from core.system import log_outlet
from core.system.child import python
from core.system.command_names import command
from core.system.locks import try_lock
from core.system.machine import NETWORK, filesystem
from core.system.optional_packages import require_torch
from core.system.settings import Settings
from topwork.errors import TopworkError

DATABASE_SECONDS = 60.0
LOOK_SECONDS = 1.0  # Between two tries to reach a database.
LONGEST_SOCKET = 100  # Bytes; the kernel's limit is 108 on Linux and 104 on macOS.
LONGEST_SOCKET_NAME = "predictor.sock"


class AlreadyRunning(TopworkError):
    """Another topwork runs on this data folder."""

    status, code = 409, "already_running"
    hint = "Use that one, stop it, or pass another --data-dir."


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
    sockets: tuple[socket.socket, ...] = ()  # Where the api answers: they listen already.

    @property
    def url(self) -> str:
        """Address for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - the two wildcards.
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def children(plan: Plan) -> tuple[Service, ...]:
    """Return the api, worker and predictor in the order in which they stop.

    Their graces and the broker's add up to less than ten seconds, which is promised.
    """
    grace = ("--grace", "2")  # Shorter than those below.
    fds = tuple(one.fileno() for one in plan.sockets)
    listening = [word for fd in fds for word in ("--fd", str(fd))]
    address = ("--host", plan.host, "--port", str(plan.port), *grace, *listening)
    slots = plan.slots or max(1, (os.cpu_count() or 1) // 4)
    return (
        Service("api", python("-m", "app.api.main", *address).command, fds=fds, grace=2.5),
        Service("worker", python("-m", "worker", "--slots", str(slots), *grace).command, grace=3.5),
        Service("predictor", python("-m", "app.predictor", *grace).command, grace=2.5),
    )


def up(
    plan: Plan,
    settings: Settings,
    *,
    services: Callable[[Plan], tuple[Service, ...]] = children,
    supervisor: Supervisor | None = None,
) -> int:
    """Run everything until SIGINT or SIGTERM; return the exit code.

    Raises:
        TorchMissing: It is not installed here.
        NetworkShare: SQLite's file would lie on one.
        KeyRequired: The host is not loopback and no admin key is set.
        AlreadyRunning: Another instance holds the data folder.
        PortInUse: Something listens on the port.
        BrokerMissing: No broker URL is set and no server binary exists.
        ChildFailed: A process ended three times before it was ready.
    """
    require_torch()
    log_outlet.install(missing)
    check_database_place(settings)
    check_bind(plan.host, settings)
    supervisor = supervisor or Supervisor(Console())
    with (
        lock_data_dir(settings.data_dir) as lock,
        listening(plan.host, plan.port) as sockets,
        run_dir(settings) as private,
    ):
        plan = replace(plan, port=sockets[0].getsockname()[1], sockets=sockets)
        note_holder(lock, plan)
        if private != settings.run_dir:
            settings = settings.model_copy(update={"run_dir": private})
        with supervisor:
            try:
                supervise(supervisor, plan, settings, services)
            except ChildFailed as failed:
                doctor = command("doctor", data_dir=settings.data_dir)
                failed.hint = f"{ChildFailed.hint} {doctor} names what is wrong with a machine."
                raise
            finally:
                supervisor.console.say("stopping")
                for one in sockets:  # Whoever still comes is refused instead of left waiting.
                    one.close()
        supervisor.console.say("stopped")
    return 1 if supervisor.killed else 0


def supervise(
    supervisor: Supervisor,
    plan: Plan,
    settings: Settings,
    services: Callable[[Plan], tuple[Service, ...]],
) -> None:
    """Start the broker, bring the database up to date, then run the rest until told to stop."""
    shared = {**environment(settings), "PYTHONUNBUFFERED": "1"}
    if not settings.broker_url:
        valkey, shared["TOPWORK_BROKER_URL"] = broker(settings.run_dir, settings.data_dir)
        supervisor.start([valkey])
    migrate(settings, supervisor)
    supervisor.watch(until=supervisor.all_ready)
    if supervisor.stopping:
        return
    supervisor.start(replace(service, env={**shared, **service.env}) for service in services(plan))
    supervisor.watch(
        on_ready=lambda: supervisor.console.say(
            f"ready at {plan.url} (API documentation: {plan.url}/docs)"
        )
    )


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that make a child see the same folders."""
    return {
        "TOPWORK_DATA_DIR": str(settings.data_dir),
        "TOPWORK_RUN_DIR": str(settings.run_dir),
    }


def migrate(settings: Settings, supervisor: Supervisor) -> None:
    """Bring the database up to date, in a process of its own: this one stays small.

    A server that is away is waited for, as one that starts with the machine may be slower.

    Raises:
        MigrationFailed: With the last line of what the process said.
    """
    until, told = time.monotonic() + DATABASE_SECONDS, False
    while not supervisor.stopping:
        code, last = _migrated(settings)
        if not code:
            return
        if code != AWAY_CODE or time.monotonic() > until:
            raise MigrationFailed(last or None)
        if not told:
            supervisor.console.say(f"waiting {DATABASE_SECONDS:.0f} s for the database: {last}")
            told = True
        supervisor.watch(until=partial(_is_past, time.monotonic() + LOOK_SECONDS))


def _is_past(moment: float) -> bool:
    return time.monotonic() >= moment


def _migrated(settings: Settings) -> tuple[int, str]:
    """Return the exit code of a migration, and the last line that it said."""
    child = python("-m", "core.store.migrate", env={**os.environ, **environment(settings)})
    done = subprocess.run(
        child.command,
        env=child.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        start_new_session=True,  # Ctrl-C lets it finish.
    )
    return done.returncode, done.stdout.strip().rpartition("\n")[2]


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


@contextlib.contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[TextIO]:
    """Hold the data folder for this process; the kernel lets go however it ends.

    Raises:
        AlreadyRunning: Another process holds it.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "topwork.lock").open("a+") as lock:
        if not try_lock(lock.fileno()):
            lock.seek(0)
            holder = _whereabouts(lock.read())
            raise AlreadyRunning(f"Another topwork runs on {data_dir}{holder}.")
        lock.truncate(0)  # What stands there is about an earlier one.
        yield lock


def note_holder(lock: TextIO, plan: Plan) -> None:
    """Write down for others who holds the folder, and where it answers."""
    lock.write(json.dumps({"pid": os.getpid(), "url": plan.url}))
    lock.flush()


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
