"""Where the api listens is decided, and taken, before it starts."""

import contextlib
import socket

import pytest

from app.supervisor.listening import CannotListen, PortInUse, listening


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port}"), listening("127.0.0.1", port):
            pass


def test_nobody_else_can_take_the_port_meanwhile() -> None:
    with listening("127.0.0.1", 0) as (one,):
        port = one.getsockname()[1]
        assert port > 0
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        with pytest.raises(PortInUse), listening("127.0.0.1", port):
            pass
    with listening("127.0.0.1", port):  # Free again at once.
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "127.0.0.1.1"])
def test_an_address_of_another_machine_is_another_mistake(host: str) -> None:
    with pytest.raises(CannotListen, match=host) as refused, listening(host, 0):
        pass
    assert refused.value.code == "cannot_listen"
    assert "--host" in str(refused.value.hint)


def test_a_name_means_all_its_addresses_under_one_port() -> None:
    with listening("localhost", 0) as sockets:
        names = [one.getsockname()[:2] for one in sockets]
        assert len({port for _, port in names}) == 1
        for name in names:
            with contextlib.closing(socket.create_connection(name, 5)):
                pass
