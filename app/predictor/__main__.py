"""The predictor process: `python -P -m app.predictor`, HTTP over a unix socket or TCP.

It answers the api process only (see `app.predictor_protocol`), never the outside: the socket is for
this user alone, and a TCP address belongs on an internal network. SIGTERM answers what was begun
and ends.
"""

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.asgi.disconnect import unless_gone
from app.asgi.problem import render
from app.asgi.request_id import name
from app.asgi.server import Server, configuration, run
from app.predictor.metrics import Measures
from app.predictor.service import Predictor
from app.predictor_protocol import HEADER, Order
from core.store.object_store import Storage, StorageUnavailable
from core.system import log_outlet, process_start
from core.system.disk import is_full
from core.system.log import configure
from core.system.machine import LOOK, cores
from core.system.settings import Settings, read_settings
from topwork.errors import (
    DiskFull,
    MalformedRequest,
    PredictorUnavailable,
    RequestTooLarge,
    TopworkError,
)

log = structlog.get_logger()

GRACE_SECONDS = 20  # Less than an orchestrator waits, as for the api.
# The api keeps its connections; closing them under it would fail a request now and then.
KEEP_ALIVE_SECONDS = 3600
BACKLOG = 128


def create_app(settings: Settings) -> Starlette:
    """Return the predictor as an ASGI application."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.measures = Measures()
        storage = Storage(settings.storage_url, settings.storage_secret_key)
        app.state.predictor = Predictor(settings, storage, app.state.measures)
        warming = asyncio.create_task(app.state.predictor.warm(settings.default_model))
        yield
        warming.cancel()
        await app.state.predictor.close()

    routes = [
        Route("/predict", predict, methods=["POST"]),
        Route("/healthz", healthz),
        Route("/metrics", metrics),
    ]
    handlers: dict[Any, Any] = {
        TopworkError: problem,
        ClientDisconnect: gone,
        StorageUnavailable: unavailable,
        OSError: unavailable,
        MemoryError: unavailable,
        RuntimeError: unavailable,
        Exception: unavailable,
    }
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers=handlers,
        middleware=[Middleware(Named)],
    )


async def predict(request: Request) -> Response:
    """Answer one order."""
    state = request.app.state
    order = read_order(request, state.settings)
    with state.predictor.admitted(order.owner, len(order.sizes)):
        body = await read_body(request, sum(order.sizes))
        answer = await unless_gone(request, state.predictor.predict(order, body))
    state.measures.requests.labels("200").inc()
    log.info("predicted", images=len(order.sizes), **answer["timing_ms"])
    return JSONResponse(answer)


class Named:
    """The middleware that binds the api's request id to everything that is logged."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with structlog.contextvars.bound_contextvars(request_id=name(scope)):
            await self.app(scope, receive, send)


async def healthz(request: Request) -> Response:
    """Say that the process answers."""
    del request
    return JSONResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Return the counters as Prometheus text."""
    text = request.app.state.measures.text()
    return Response(text, media_type="text/plain; version=0.0.4")


def read_order(request: Request, settings: Settings) -> Order:
    """Read and check the order in the header.

    Raises:
        MalformedRequest: It is missing or not an order.
        RequestTooLarge: It asks for more than the settings allow.
    """
    try:
        order = Order.model_validate_json(request.headers.get(HEADER, ""))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise MalformedRequest(f"{HEADER} {where}: {first['msg']}") from error
    if len(order.sizes) > settings.max_predict_images:
        raise RequestTooLarge(f"At most {settings.max_predict_images} images go in one request.")
    if sum(order.sizes) > settings.max_predict_bytes:
        raise RequestTooLarge(f"At most {settings.max_predict_bytes} bytes go in one request.")
    return order


async def read_body(request: Request, expected: int) -> bytes:
    """Read exactly the announced bytes; MalformedRequest when there are more or fewer."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > expected:
            break
    if len(body) != expected:
        raise MalformedRequest(f"The body must have the {expected} bytes that `sizes` announces.")
    return bytes(body)


async def problem(request: Request, error: TopworkError) -> Response:
    """Answer an error of the tree."""
    request.app.state.measures.requests.labels(str(error.status)).inc()
    return render(request, error)


async def unavailable(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw: it is logged, and the caller may try again."""
    if is_full(error):
        return await problem(request, DiskFull())
    # Starlette hands on what it knows no class for outside of all middleware.
    log.error("predict.failed", request_id=request.state.request_id, exc_info=error)
    if isinstance(error, StorageUnavailable):
        return await problem(request, PredictorUnavailable("The object storage does not answer."))
    return await problem(request, PredictorUnavailable("The model could not be run."))


async def gone(_request: Request, _error: ClientDisconnect) -> Response:
    """Answer nobody: the api went away."""
    return Response(status_code=499)


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket, readable and writable for this user only when it is a file.

    Raises:
        OSError: The address is taken, by another predictor for example.
    """
    if settings.predictor_url:
        address = urlsplit(settings.predictor_url)
        return socket.create_server((address.hostname or "127.0.0.1", address.port or 80))
    path = settings.predictor_socket
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _answers(path):
        message = f"another predictor listens on {path}"
        raise OSError(message)
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        server.bind(str(path))
    finally:
        os.umask(before)
    server.listen(BACKLOG)
    return server


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    process_start.begin()
    parser = argparse.ArgumentParser(prog="python -P -m app.predictor")
    parser.add_argument(
        "--grace", default=GRACE_SECONDS, type=int, help="seconds to end what is under way"
    )
    grace = parser.parse_args().grace
    configure()
    settings = read_settings()
    # torch reads these, where a model needs torch.
    os.environ.update(LOOK | os.environ | {"OMP_NUM_THREADS": str(cores())})
    try:
        server = listen(settings)
    except OSError as error:
        sys.exit(f"The predictor cannot listen: {error}")
    config = configuration(
        create_app(settings), loop="asyncio", keep_alive=KEEP_ALIVE_SECONDS, grace=grace
    )
    run(Server(config), [server])
    if not settings.predictor_url:
        with suppress(FileNotFoundError):
            settings.predictor_socket.unlink()
    logging.shutdown()
    log_outlet.flush()
    # A download under way in a loader's thread must not hold the process.
    os._exit(0)


if __name__ == "__main__":
    main()
