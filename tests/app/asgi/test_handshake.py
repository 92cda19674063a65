"""A websocket handshake is a GET like every other, whatever server hands it on."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient, WebSocketDenialResponse

from app.api.main import create_app
from core.system.settings import Settings
from tests.app.apiclient import local_client

KEY = "a-long-and-random-key"


@pytest.fixture
def locked(settings: Settings) -> FastAPI:
    return create_app(settings.model_copy(update={"admin_key": SecretStr(KEY)}))


@pytest.fixture
def client(locked: FastAPI) -> Iterator[TestClient]:
    with local_client(locked) as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [("/jobs", "", 401), ("/jobs", "wrong", 401), ("/nowhere", KEY, 404), ("/healthz", "", 200)],
)
def test_it_needs_the_same_key_and_is_logged(
    client: TestClient, path: str, key: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        structlog.testing.capture_logs() as logged,
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect(path, headers=headers),
    ):
        pass
    assert denied.value.status_code == status
    assert denied.value.headers["X-Request-Id"]
    assert denied.value.json()
    (line,) = [line for line in logged if line["event"] == "request"]
    assert (line["method"], line["path"], line["status"]) == ("GET", path, status)


def test_a_server_that_can_only_close_closes(locked: FastAPI) -> None:
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "websocket",
        "path": "/jobs",
        "raw_path": b"/jobs",
        "query_string": b"",
        "root_path": "",
        "scheme": "ws",
        "http_version": "1.1",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def shake() -> None:
        async with locked.router.lifespan_context(locked):
            await locked(scope, receive, send)

    asyncio.run(shake())
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
