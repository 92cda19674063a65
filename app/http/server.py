"""The server of api and predictor, from its sockets to a clean end."""

import signal
import socket

import uvicorn

from core import ready


class Server(uvicorn.Server):
    """A server that tells its starter once it can be reached."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        ready.announce()


def run(server: Server, sockets: list[socket.socket] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; must be called in the main thread."""
    # uvicorn raises the signal again once it has shut down; the end is then a clean one.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets)
