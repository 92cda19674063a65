"""A server of ours in a thread, on a port of its own."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from app.asgi.connection_limits import BoundedProtocol
from app.asgi.server import configuration
from tests.waiting import wait_for


@contextmanager
def listening(app: Any, *, keep_alive: int = 30, **options: Any) -> Iterator[uvicorn.Server]:
    """Serve an application as the api does; its port is `server.config.port`."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = configuration(
        app,
        protocol=BoundedProtocol,
        keep_alive=keep_alive,
        grace=2,
        lifespan="off",
        port=listener.getsockname()[1],
        **options,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    wait_for(lambda: server.started, 20)
    try:
        yield server
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)
        listener.close()
