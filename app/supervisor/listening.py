"""The sockets on which the api answers, opened before it starts and kept while it is restarted.

Only one process can listen on a port, so who has these sockets is who answers there: what the api
says about itself cannot be another program's word. Who connects while the api starts waits.
"""

import contextlib
import errno
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from topwork.errors import TopworkError

Address = tuple[Any, ...]  # Host, port, and for IPv6 two more.
BACKLOG = 2048  # As many as uvicorn asks for.
# Of several addresses of a name, say ::1 of localhost, some may not exist on this machine.
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class CannotListen(TopworkError):
    """This machine cannot listen there."""

    status, code = 409, "cannot_listen"
    hint = "Pass an address of this machine as --host, and a --port that you may use."


class PortInUse(CannotListen):
    """The port is taken."""

    code = "port_in_use"
    hint = "Pass another --port, or --port 0 for a free one."


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, ...]]:
    """Yield a listening socket for each address of the host; port 0 takes a free one for all.

    Raises:
        PortInUse: Another program listens there.
        CannotListen: There is no such address here, or the port is not for this user.
    """
    with contextlib.ExitStack() as opened:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            sockets = _listen(opened, dict.fromkeys((one[0], one[4]) for one in found))
        except OSError as error:
            kind = PortInUse if error.errno == errno.EADDRINUSE else CannotListen
            raise kind(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from None
        yield sockets


def _listen(
    opened: contextlib.ExitStack, addresses: Iterable[tuple[int, Address]]
) -> tuple[socket.socket, ...]:
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, (host, port, *scope) in addresses:
        # Where any port will do, all addresses have that of the first.
        taken = sockets[0].getsockname()[1] if sockets else port
        one = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind((host, taken, *scope))
            one.listen(BACKLOG)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            absent = error
        else:
            sockets.append(one)
    if not sockets and absent is not None:
        raise absent
    return tuple(sockets)
