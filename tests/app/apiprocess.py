"""An api in a process of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from core.store.resources import Resources, open_resources
from core.system.settings import Settings
from tests.app.apiclient import Work
from tests.waiting import wait_for


class Api:
    """A running api and direct access to its database."""

    def __init__(
        self,
        data: Path,
        resources: Resources,
        *arguments: str,
        output: int | None = None,
        **environment: str,
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = data
        self.resources = resources
        self.work = Work(resources)
        self.log = data / "api.log"
        self.arguments = arguments
        self.output = output
        # No predictor will be started here.
        usual = {"TOPWORK_DATA_DIR": str(data), "TOPWORK_PREDICT_WAIT_SECONDS": "0"}
        self.environment = {**os.environ, **usual, **environment}
        self.launch()

    def launch(self) -> None:
        """Start it, or start it again at the same address."""
        command = [sys.executable, "-m", "app.api.main", "--port", str(self.port), *self.arguments]
        with self.log.open("a") as log:
            out = log.fileno() if self.output is None else self.output
            self.process = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)
        wait_for(self.answers, 60)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx2.get(f"{self.url}/healthz").is_success
        except httpx2.TransportError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Seconds until the process has ended."""
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - begun


def start(
    folder: Path,
    migrated: Path,
    *arguments: str,
    output: int | None = None,
    **environment: str,
) -> Iterator[Api]:
    data = folder / "data"
    data.mkdir()
    shutil.copy(migrated, data / "topwork.db")
    with open_resources(Settings(data_dir=data)) as resources:
        api = Api(data, resources, *arguments, output=output, **environment)
        try:
            yield api
        finally:
            if api.process.poll() is None:
                api.process.kill()
            api.process.wait()
