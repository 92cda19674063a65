"""A Valkey of a test's own that may die and come back, configured as `topwork up` does."""

import signal
import subprocess
from pathlib import Path

import redis

from app.supervisor.valkey import configuration, find_server
from tests.waiting import wait_for

PASSWORD = "secret"


class Broker:
    """An embedded broker with its append-only log; `kill` is SIGKILL."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.socket = folder, folder / "broker.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis+socket://:{PASSWORD}@{self.socket}?virtual_host=0"
        self.client = redis.Redis(unix_socket_path=str(self.socket), password=PASSWORD)

    def start(self) -> None:
        self._process = subprocess.Popen([str(find_server()), "-"], stdin=subprocess.PIPE)
        text = configuration(self.socket, self._folder, PASSWORD)
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.close()
        wait_for(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.kill()
        self.client.close()
