"""What stands where the predictor listens."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.predictor_protocol import HEADER, Order
from core.system.settings import Settings
from tests.waiting import wait_for


@dataclass
class Stub:
    """A predictor that remembers what it was asked."""

    status: int = 200
    answer: dict[str, Any] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def predict(self, request: Request) -> Response:
        order = Order.model_validate_json(request.headers[HEADER])
        self.orders.append(order)
        self.bodies.append(await request.body())
        await anyio.to_thread.run_sync(self.gate.wait)
        results = [
            _result(name, size) for name, size in zip(order.filenames, order.sizes, strict=True)
        ]
        good = {"results": results, "timing_ms": {"decode": 1.5}, "model": {"classes": 2}}
        return JSONResponse(self.answer or good, self.status)

    async def healthz(self, _request: Request) -> Response:
        return JSONResponse({})


def _result(name: str, size: int) -> dict[str, Any]:
    if size < 5:
        error = {"code": "image_undecodable", "message": "It is no image.", "hint": "Send one."}
        return {"filename": name, "status": "error", "error": error}
    guess = {"label": "cat", "index": 0, "confidence": 0.9}
    ranked = {"label": "cat", "confidence": 0.9, "predictions": [guess], "threshold": None}
    return {"filename": name, "status": "ok", "decision": "accept", **ranked}


def listen(settings: Settings) -> socket.socket:
    """Return a socket where the predictor's would be."""
    settings.predictor_socket.parent.mkdir(parents=True, exist_ok=True)
    settings.predictor_socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(settings.predictor_socket))
    return listener


@contextmanager
def standing_in(settings: Settings) -> Iterator[Stub]:
    """Answer in place of the predictor."""
    made = Stub()
    routes = [Route("/predict", made.predict, methods=["POST"]), Route("/healthz", made.healthz)]
    config = uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    with listen(settings) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_for(lambda: server.started)
        try:
            yield made
        finally:
            server.should_exit = True
            thread.join()
