import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.supervisor.valkey import broker
from core.store.broker import make_celery
from tests.core.system.test_addresses import PRINTABLE
from tests.waiting import wait_for

# The path of a socket is short, so not all characters go into one name.
PARTS = ["".join(PRINTABLE[start : start + 24]) for start in range(0, len(PRINTABLE), 24)]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="v") as made:
        yield Path(made)


@pytest.mark.parametrize("name", [*PARTS, "ü ☃", "c#", "my%20x", "q?x", '"', "\\"])
def test_a_folder_of_any_name_holds_the_broker_and_its_socket(name: str, folder: Path) -> None:
    data = folder / name
    (data / "run").mkdir(parents=True)
    service, url = broker(data / "run", data)
    process = subprocess.Popen(
        service.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False
    )
    assert process.stdin is not None
    try:
        process.stdin.write(service.stdin or b"")
        process.stdin.close()
        wait_for(lambda: process.poll() is not None or (service.ready and service.ready()), 20)
        with make_celery(url).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1)
            connection.default_channel.queue_declare("rings")
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close() if process.stdout else None
    assert [path.name for path in folder.iterdir()] == [name]
    assert (data / "broker").is_dir()
