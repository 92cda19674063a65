"""The servers of api and predictor: HTTP/1.1 alone, from their sockets to a clean end."""

import signal
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.asgi.framing import FramedProtocol
from core.system import readiness_signal


class Server(uvicorn.Server):
    """A server that tells its starter once it can be reached."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        readiness_signal.announce()


def configuration(
    app: ASGIApp,
    *,
    keep_alive: int,
    grace: int,
    protocol: type[FramedProtocol] = FramedProtocol,
    **options: Any,
) -> uvicorn.Config:
    """Return the settings of a server.

    Args:
        app: What answers.
        keep_alive: Seconds for which an idle connection stays open.
        grace: Seconds that requests under way have to end once the server is told to stop.
        protocol: What parses requests and writes answers.
        options: Further settings of uvicorn.
    """
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,  # The applications log each request with its id.
        server_header=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=grace,
        **options,
    )


def run(server: Server, sockets: list[socket.socket] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; must be called in the main thread."""
    # uvicorn raises the signal again once it has shut down; the end is then a clean one.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets)
