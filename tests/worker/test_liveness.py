"""A lock tells a dead worker from a living or frozen one."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.waiting import wait_for
from worker.liveness import Presence

HOLD = (
    "import sys, time, pathlib; from worker.liveness import Presence\n"
    "with Presence(pathlib.Path(sys.argv[1]), sys.argv[2]): time.sleep(1000)"
)


def test_only_the_dead_of_this_machine_are_named(tmp_path: Path) -> None:
    host = socket.gethostname()
    neighbour = f"{host}:1:aa"
    (tmp_path / "elsewhere:1:bb").touch()
    with (
        Presence(tmp_path, f"{host}:2:cc") as presence,
        subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), neighbour]) as holder,
    ):
        wait_for((tmp_path / neighbour).exists)
        assert list(presence.dead()) == []
        holder.send_signal(signal.SIGSTOP)
        assert list(presence.dead()) == []
        holder.kill()
        holder.wait(5)
        assert list(presence.dead()) == [neighbour]
        assert list(presence.dead()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere:1:bb"]


def test_what_could_not_be_dealt_with_is_named_again(tmp_path: Path) -> None:
    host = socket.gethostname()
    (tmp_path / f"{host}:1:aa").touch()
    with Presence(tmp_path, f"{host}:2:cc") as presence:
        dead = presence.dead()
        assert next(dead) == f"{host}:1:aa"
        dead.close()  # type: ignore[attr-defined]
        assert list(presence.dead()) == [f"{host}:1:aa"]


def test_a_neighbour_that_leaves_meanwhile_is_not_missed(tmp_path: Path) -> None:
    names = {f"{socket.gethostname()}:{number}:aa" for number in (1, 3)}
    for name in names:
        (tmp_path / name).touch()
    with Presence(tmp_path, f"{socket.gethostname()}:2:cc") as presence:
        dead = presence.dead()
        (other,) = names - {next(dead)}
        (tmp_path / other).unlink()
        assert list(dead) == []
