"""One api process of its own, which a test may order to die."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from core.system import failpoints
from core.system.settings import Settings
from tests.e2e.conftest import free_port
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
Api = tuple[httpx2.Client, subprocess.Popen[bytes]]


@contextmanager
def api(
    settings: Settings, order: str = ""
) -> Iterator[tuple[httpx2.Client, subprocess.Popen[bytes]]]:
    """Start the api on a free port with an order for its failpoints; kill it at the end."""
    port = free_port()
    names = settings.model_fields_set & {"data_dir", "database_url", "broker_url", "run_dir"}
    given = {f"TOPWORK_{name.upper()}": str(getattr(settings, name)) for name in names}
    usual = {failpoints.VARIABLE: order, "TOPWORK_OFFLINE": "1"}
    usual["TOPWORK_PREDICT_WAIT_SECONDS"] = "0"  # Many tests have no predictor, on purpose.
    process = subprocess.Popen(
        [sys.executable, "-m", "app.api.main", "--port", str(port)],
        cwd=ROOT,
        env=os.environ | usual | given,
    )
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            wait_for(lambda: answers(client), 60)
            yield client, process
        finally:
            process.kill()
            process.wait(10)


def answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False
