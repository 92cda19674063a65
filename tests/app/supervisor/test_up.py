"""The supervisor with stand-in children: real processes, a real Valkey, real signals."""

import contextlib
import http.client
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.supervisor import up as supervisor
from app.supervisor.console import Console
from app.supervisor.supervise import MOST_STARTS, Supervisor
from app.supervisor.up import NetworkShare, Plan, children
from app.supervisor.valkey import broker
from core.system.settings import Settings
from tests.app.processes import alive, descendants
from tests.app.running import Up
from tests.chaos.proxy import before_postgres
from tests.waiting import wait_for
from topwork.errors import KeyRequired

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@pytest.fixture
def ups() -> Iterator[list[Up]]:
    """A list to which a test adds what must not outlive it."""
    running: list[Up] = []
    yield running
    for one in running:
        one.kill()


def standin(data_dir: Path, log: Path, *modes: str) -> Up:
    return Up(log, "tests.app.standin", str(data_dir), "0", *modes)


@pytest.fixture
def up(tmp_path: Path, ups: list[Up]) -> Up:
    ups.append(standin(tmp_path / "data", tmp_path / "log"))
    return ups[0]


@pytest.mark.parametrize("kind", ["nfs4", "cifs"])
def test_sqlite_on_a_network_share_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    share = tmp_path / "share"
    monkeypatch.setattr(
        supervisor, "filesystem", lambda path: kind if path.is_relative_to(share) else "ext4"
    )
    with pytest.raises(NetworkShare, match=kind) as refused:
        supervisor.up(Plan(port=0), Settings(data_dir=share / "data"))
    assert "Postgres" in str(refused.value.hint)
    assert not share.exists()
    here = Settings(data_dir=tmp_path / "data")
    supervisor.check_database_place(here)
    elsewhere = here.model_copy(update={"database_url": f"sqlite:///{share}/topwork.db"})
    with pytest.raises(NetworkShare):
        supervisor.check_database_place(elsewhere)
    on_postgres = "postgresql+psycopg://db/topwork"
    supervisor.check_database_place(Settings(data_dir=share / "data", database_url=on_postgres))


def test_sigint_with_an_open_stream_stops_everything_in_order(up: Up) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", up.wait_ready(), timeout=10)
    connection.request("GET", "/events")
    stream = connection.getresponse()
    assert stream.read(3) == b": b"
    pids = descendants(up.popen.pid)
    assert len(pids) == 3  # valkey, api, worker

    code, seconds = up.interrupt()

    assert code == 0
    assert seconds <= 10
    assert alive(pids) == []
    assert not up.said("KeyboardInterrupt")  # Only the supervisor hears it.
    connection.close()


def test_a_killed_child_is_started_again_and_it_says_so(up: Up) -> None:
    port = up.wait_ready()
    for part, name in (("valkey-server", "valkey"), ("http.server", "api"), ("fragile", "worker")):
        killed = up.child(part)
        os.kill(killed, signal.SIGKILL)
        up.wait_said(f"{name} ended with SIGKILL\n.*{name} starts again in 1 s")
        wait_for(lambda part=part, killed=killed: restarted(up, part, killed))
    up.wait_said("ready at", times=2)
    assert get(port, "/") == 200
    assert up.interrupt()[0] == 0


def restarted(up: Up, part: str, killed: int) -> bool:
    with contextlib.suppress(StopIteration):
        return up.child(part) != killed
    return False


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("mode", [(), ("pipe",)], ids=["parent-death signal", "pipe"])
def test_kill_9_of_the_supervisor_leaves_no_orphan(
    tmp_path: Path, ups: list[Up], mode: tuple[str, ...]
) -> None:
    up = standin(tmp_path / "data", tmp_path / "log", "deaf", *mode)
    ups.append(up)
    up.wait_ready()
    pids = descendants(up.popen.pid)
    assert len(pids) == (6 if mode else 3)  # With a pipe each has its watcher.

    up.popen.kill()
    up.popen.wait()

    wait_for(lambda: not alive(pids))


def test_a_deaf_child_is_killed_after_its_grace_and_at_once_on_a_second_signal(
    tmp_path: Path, ups: list[Up]
) -> None:
    up = standin(tmp_path / "data", tmp_path / "log", "deaf")
    ups.append(up)
    up.wait_ready()
    pids = descendants(up.popen.pid)
    up.popen.send_signal(signal.SIGINT)
    up.wait_said("stopping")
    code, seconds = up.interrupt()
    assert code == 1
    assert seconds < 3
    assert up.said("worker did not stop in time: killed")
    assert alive(pids) == []


def test_a_second_instance_is_refused_and_says_who_runs(tmp_path: Path, up: Up) -> None:
    port = up.wait_ready()
    second = standin(tmp_path / "data", tmp_path / "log2")
    assert second.popen.wait(120) == 3
    assert second.said(rf"Another topwork runs on .* at .*:{port} \(process {up.popen.pid}\)")


def test_a_data_folder_of_any_length_works(tmp_path: Path, ups: list[Up]) -> None:
    data = tmp_path / ("x" * 120)
    up = standin(data, tmp_path / "log")
    ups.append(up)
    up.wait_ready()
    run_dir = Path(up.said(r"pid \d+ (\S+)")[0])
    assert not run_dir.is_relative_to(data)
    assert run_dir.stat().st_mode & 0o777 == 0o700
    assert (run_dir / "valkey.sock").is_socket()
    assert up.interrupt()[0] == 0
    assert not run_dir.exists()


def test_a_broken_broker_log_is_set_aside(tmp_path: Path, up: Up, ups: list[Up]) -> None:
    up.wait_ready()
    assert up.interrupt()[0] == 0
    log = tmp_path / "data/broker/appendonlydir"
    (base,) = log.glob("*.base.rdb")
    base.write_bytes(b"not a database")
    again = standin(tmp_path / "data", tmp_path / "log2")
    ups.append(again)
    again.wait_said("valkey could not start with its log: it now starts empty")
    again.wait_ready()
    assert len(list((tmp_path / "data/broker").glob("appendonlydir.broken-*"))) == 1


def test_the_private_socket_folder_is_closed_to_others(tmp_path: Path, up: Up) -> None:
    up.wait_ready()
    assert (tmp_path / "data/run").stat().st_mode & 0o777 == 0o700


def test_stopping_takes_ten_seconds_at_most(tmp_path: Path) -> None:
    valkey, _url = broker(tmp_path, tmp_path)
    services = (*children(Plan()), valkey)
    assert sum(service.grace for service in services) <= 9.5


def test_what_is_under_way_ends_before_its_process_is_killed() -> None:
    services = children(Plan())
    assert {service.name for service in services} == {"api", "worker", "predictor"}
    for service in services:
        assert service.grace > float(service.command[service.command.index("--grace") + 1])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_an_open_host_needs_a_key(settings: Settings, host: str) -> None:
    with pytest.raises(KeyRequired, match=re.escape(host)):
        supervisor.up(Plan(host=host), settings)
    assert not (settings.data_dir / "topwork.lock").exists()


def test_a_child_that_is_never_ready_stops_the_whole_with_its_last_words(
    tmp_path: Path, ups: list[Up]
) -> None:
    up = standin(tmp_path / "data", tmp_path / "log", "unready")
    ups.append(up)
    assert up.popen.wait(60) == 3
    assert len(up.said(r"worker +\| this machine has no luck")) == MOST_STARTS
    assert up.said("worker ended 3 times before it was ready, at last with exit code 1")
    assert up.said(r"\n  this machine has no luck")
    assert not up.said("ready at")


def test_a_child_that_was_ready_once_is_started_again_as_often_as_it_takes(
    tmp_path: Path, ups: list[Up]
) -> None:
    up = standin(tmp_path / "data", tmp_path / "log", "fragile")
    ups.append(up)
    up.wait_said("worker ended with exit code 7", MOST_STARTS + 1)
    assert up.popen.poll() is None
    assert up.interrupt()[0] == 0


def test_who_connects_while_the_api_is_away_waits_for_it(up: Up) -> None:
    port = up.wait_ready()
    for _ in range(2):
        os.kill(up.child("http.server"), signal.SIGKILL)
        assert get(port, "/") == 200
    assert up.interrupt()[0] == 0
    with pytest.raises(ConnectionRefusedError):
        get(port, "/")


class Listening(Console):
    """A console that remembers, and can let something happen at the first word."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__(io.StringIO())
        self.told: list[str] = []
        self._then = then

    def say(self, text: str) -> None:
        self.told.append(text)
        if len(self.told) == 1:
            self._then()


def test_a_database_that_is_slower_is_waited_for(settings: Settings, postgres: str) -> None:
    with before_postgres(postgres) as (proxy, url):
        proxy.mode = "cut"
        console = Listening(lambda: setattr(proxy, "mode", "pass"))
        with pytest.MonkeyPatch.context() as patch, Supervisor(console) as one:
            patch.setenv("TOPWORK_DATABASE_URL", url)
            supervisor.migrate(settings, one)
    (told,) = console.told
    assert "for the database" in told
