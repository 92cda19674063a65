"""SIGKILL each process of a running service in the middle of one job: it succeeds, once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.domain import jobs
from core.store.resources import Resources, open_resources
from core.system.settings import Settings
from tests.e2e.conftest import Service, running
from tests.invariants import broken
from tests.waiting import wait_for

# Words in its name and command line by which each process is known.
COMMANDS = {
    "valkey": ("valkey-server",),
    "api": ("app.api.main",),
    "worker": ("worker", "--slots"),
    "trainer": ("worker.process.guard", "models.train"),
}
# Nobody has to ask the api how far the job is: it may be the one that was killed.
SHARES = {"valkey": 0.05, "api": 0.15, "worker": 0.25, "trainer": 0.5}
ATTEMPTS = {"trainer": 2}  # The first one's dies with the worker.
CONFIG = {
    "architecture": "lenet",
    "weights": "none",
    "hyperparameters": {"epochs": 40},
    "early_stopping": None,
}


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that notices the loss of a worker within seconds."""
    short: dict[str, Any] = {
        "TOPWORK_LEASE_SECONDS": "3",
        "TOPWORK_HEARTBEAT_SECONDS": "0.5",
        "TOPWORK_SWEEP_SECONDS": "1",
    }
    with running(tmp_path_factory.mktemp("fragile") / "data", **short) as service:
        yield service


def descendants(pid: int) -> dict[int, list[str]]:
    """Return name and command line of all processes below one; a fork has its parent's line."""
    children: dict[int, list[int]] = {}
    words: dict[int, list[str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            line = (folder / "cmdline").read_text().split("\0")
            words[int(folder.name)] = [(folder / "comm").read_text().strip(), *line]
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(folder.name))
    below = children.get(pid, [])
    found: dict[int, list[str]] = {}
    while below:
        found |= {child: words[child] for child in below}
        below = [grandchild for child in below for grandchild in children.get(child, [])]
    return found


def processes(service: Service, name: str) -> set[int]:
    """Return the processes of a service that have these words in their command line."""
    return {
        pid
        for pid, words in descendants(service.process.pid).items()
        if all(any(Path(word).name == wanted for word in words) for wanted in COMMANDS[name])
    }


def reached(resources: Resources, job_id: str, share: float, attempt: int) -> bool:
    with resources.database.read() as session:
        job = jobs.get(session, job_id)
        return job.progress >= share and job.attempt >= attempt


def test_a_job_survives_the_loss_of_each_process(fragile: Service, blocks: bytes) -> None:
    job_id = fragile.finetune(blocks, name="blocks", **CONFIG)
    with open_resources(Settings(data_dir=fragile.data_dir)) as resources:
        killed: set[int] = set()
        for name, share in SHARES.items():
            here = share, ATTEMPTS.get(name, 1)
            wait_for(lambda here=here: reached(resources, job_id, *here), 90)
            victims = wait_for(lambda name=name: processes(fragile, name) - killed)
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            killed.update(victims)
        job = fragile.ended(job_id, 90)
        assert job["state"] == "succeeded", job
        assert job["result"]["model"] == "blocks@1"
        assert job["attempt"] == 3  # The loss of valkey and of the api cost it nothing.
        assert not broken(resources)
    for name in ("valkey", "api", "worker"):
        wait_for(lambda name=name: processes(fragile, name), 30)
    assert not processes(fragile, "trainer")
    later = fragile.finetune(blocks, name="later", **CONFIG | {"hyperparameters": {"epochs": 1}})
    assert fragile.ended(later, 90)["state"] == "succeeded"
