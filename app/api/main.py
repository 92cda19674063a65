"""The HTTP service: `python -P -m app.api.main --host 127.0.0.1 --port 8000`."""

import argparse
import resource
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.api import openapi, page
from app.api.authorization import Guard
from app.api.routes import ROUTERS
from app.api.state import serving
from app.asgi import exception_handlers
from app.asgi.bind import check_bind
from app.asgi.connection_limits import BoundedProtocol
from app.asgi.metrics import share
from app.asgi.origins import cross_origin
from app.asgi.request_body import StrictRoute
from app.asgi.request_log import Envelope
from app.asgi.server import Server, configuration, run
from core.system import process_start
from core.system.log import configure
from core.system.secrets import hide
from core.system.settings import Settings, read_settings
from topwork import __version__

GRACE_SECONDS = 20  # Less than an orchestrator waits, so that uploads under way are tidied up.
KEEP_ALIVE_SECONDS = 30
FILES_EACH = 4  # Descriptors of a connection that uploads.


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its lifespan opens what it needs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with serving(settings) as service:
            app.state.service = service
            yield

    app = FastAPI(
        title="Topwork",
        version=__version__,
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=openapi.operation_id,
        responses=openapi.PROBLEMS,
    )
    app.state.settings = settings
    app.state.routes = [route for router in ROUTERS for route in router.routes]
    app.state.in_flight = set()
    app.router.route_class = StrictRoute
    exception_handlers.install(app)
    for router in ROUTERS:
        app.include_router(router)
    openapi.install(app)
    page.install(app)
    # The last one added is the outermost.
    app.add_middleware(Guard, settings=settings)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **cross_origin(settings))
    app.add_middleware(Envelope)
    return app


class ApiServer(Server):
    """A server that tells event streams to end before it waits for its connections."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; streams end at once, other requests get their grace."""
        app: Any = self.config.app
        await app.state.service.watch.stop()
        await super().shutdown(sockets)


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    grace: int = GRACE_SECONDS,
    fds: Sequence[int] = (),
) -> None:
    """Listen until SIGTERM or SIGINT; then requests under way have `grace` seconds to end.

    `fds` are sockets that listen already, in place of host and port.

    Raises:
        KeyRequired: The host is not loopback and no admin key is set.
    """
    check_bind(host, settings)
    hide(settings.admin_key.get_secret_value())
    files = _allow_many_files()
    config = configuration(
        create_app(settings),
        protocol=BoundedProtocol,
        keep_alive=KEEP_ALIVE_SECONDS,
        grace=grace,
        host=host,
        port=port,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        limit_concurrency=min(settings.max_connections, files // FILES_EACH),
    )
    sockets = [socket.socket(fileno=fd) for fd in fds]
    for one in sockets:
        one.set_inheritable(False)  # No process that is started here has a use for them.
    run(ApiServer(config), sockets or None)


def _allow_many_files() -> int:
    """Use all the descriptors that this process may have, and return how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS reports more than it grants.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if most == resource.RLIM_INFINITY else most


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the service from the command line."""
    process_start.begin()
    parser = argparse.ArgumentParser(prog="python -P -m app.api.main", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=8000, type=int, help="port to listen on")
    parser.add_argument(
        "--grace", default=GRACE_SECONDS, type=int, help="seconds to end what is under way"
    )
    parser.add_argument(
        "--fd", action="append", default=[], type=int, help="a socket that listens already"
    )
    given = parser.parse_args(arguments)
    configure()
    settings = read_settings()
    share(settings.run_dir / "counters")
    serve(settings, host=given.host, port=given.port, grace=given.grace, fds=given.fd)


if __name__ == "__main__":
    main()
