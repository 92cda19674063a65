"""The predictor's server on the wire, where the api shares its connections between requests."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for


@pytest.fixture
def address(tmp_path: Path) -> Iterator[Path]:
    """The socket of a predictor without a model."""
    environment = {**os.environ, "TOPWORK_DATA_DIR": str(tmp_path), "TOPWORK_OFFLINE": "true"}
    command = (sys.executable, "-m", "app.predictor")
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    path = tmp_path / "run" / "predictor.sock"
    wait_for(lambda: path.exists() or process.poll() is not None, 120)
    yield path
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_an_offer_to_change_the_protocol_makes_no_request_of_a_body(address: Path) -> None:
    body = b"GET /metrics HTTP/1.1\r\nHost: predictor\r\n\r\n"
    head = (
        b"POST /healthz HTTP/1.1\r\nHost: predictor\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    after = b"GET /healthz HTTP/1.1\r\nHost: predictor\r\nConnection: close\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(20)
        wire.connect(str(address))
        wire.sendall(head + body + after)
        said = wire.makefile("rb").read()
    assert said.count(b"HTTP/1.1 ") == 2
    assert said.startswith(b"HTTP/1.1 405 ")
    assert said.endswith(b'{"status":"ok"}')
