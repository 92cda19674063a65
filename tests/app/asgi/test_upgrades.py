"""Offers to change the protocol, made to the services themselves."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.apiclient import zipped
from tests.app.apiprocess import Api, start
from tests.waiting import wait_for

HANDSHAKE = (
    b"GET /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"X-Request-Id: handshake-%d\r\n%s\r\n"
)
KEY = "an-admin-key-of-the-tests"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Api]:
    yield from start(tmp_path_factory.mktemp("api"), migrated, TOPWORK_ADMIN_KEY=KEY)


@pytest.mark.parametrize(("authorization", "status"), [("", 401), (KEY, 200)])
def test_a_websocket_handshake_is_answered_as_a_get(
    api: Api, authorization: str, status: int
) -> None:
    line = f"Authorization: Bearer {authorization}\r\n" if authorization else ""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as wire:
        wire.sendall(HANDSHAKE % (status, line.encode()))
        answer = wire.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer

    def lines() -> list[str]:
        return [line for line in api.log.read_text().splitlines() if f"handshake-{status}" in line]

    (logged,) = wait_for(lines)
    assert f'"status":{status}' in logged.replace(" ", "")


def test_curls_offer_of_http_2_loses_no_body(api: Api, tmp_path: Path) -> None:
    curl = shutil.which("curl") or pytest.skip("curl is not installed")
    if b"HTTP2" not in subprocess.check_output((curl, "--version")):
        pytest.skip("this curl knows no HTTP/2")
    archive = tmp_path / "pets.zip"
    archive.write_bytes(zipped())
    command = [curl, "--silent", "--http2", "--header", f"Authorization: Bearer {KEY}"]
    command += ["--form", f"file=@{archive}", "--form", 'config={"architecture": "lenet"}']
    command += ["--write-out", "%{http_code} %{http_version}", f"{api.url}/finetune"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert answer.stdout.endswith("202 1.1"), answer.stdout
