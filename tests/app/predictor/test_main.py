"""What the predictor's process is made of, without one: where it listens, what it answers to."""

import asyncio
import errno
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.predictor.__main__ import create_app, listen
from app.predictor_protocol import HEADER
from core.store.object_store import StorageUnavailable
from core.system.settings import Settings
from tests.app.predictor.orders import order


def test_two_predictors_never_share_a_socket(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.predictor_socket.parent.mkdir(parents=True)
    settings.predictor_socket.touch()  # Left behind by a killed process.
    with listen(settings), pytest.raises(OSError, match="another predictor"):
        listen(settings)


def test_a_url_means_tcp(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, predictor_url="http://127.0.0.1:0")
    with listen(settings) as server:
        assert server.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (RuntimeError("can't allocate memory"), 503, "predictor_unavailable"),
        (MemoryError(), 503, "predictor_unavailable"),
        (KeyError("surprise"), 503, "predictor_unavailable"),
        (StorageUnavailable("away"), 503, "predictor_unavailable"),
        (OSError(errno.EIO, "broken disk"), 503, "predictor_unavailable"),
        (OSError(errno.ENOSPC, "full"), 507, "disk_full"),
    ],
)
def test_what_nobody_foresaw_is_503_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, status: int, code: str
) -> None:
    app = create_app(Settings(data_dir=tmp_path))

    async def fail(*_: object) -> None:
        await asyncio.sleep(0)
        raise raised

    with TestClient(app, raise_server_exceptions=False) as client:
        monkeypatch.setattr(app.state.predictor, "predict", fail)
        model = {"kind": "imagenet", "architecture": "mobilenet_v2"}
        asked, body = order(model, b"x")
        headers = {HEADER: asked.model_dump_json()}
        answer = client.post("/predict", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "retry-after" in answer.headers
