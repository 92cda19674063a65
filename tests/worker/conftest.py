"""Real workers on a real broker; their children are fake_child."""

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.domain import jobs
from core.domain.events import after
from core.store.resources import Resources, open_resources
from core.store.sqlite_write_queue import PATIENCE_SECONDS, turn
from core.store.tables import Job, JobEvent, ModelVersion
from core.system.settings import Settings
from tests.invariants import broken_after_tidying, own_tmp
from tests.waiting import wait_for
from worker.runner import GRACE

ROOT = Path(__file__).resolve().parents[2]
LEASE = 30.0
HEARTBEAT = 0.3
SWEEP = 0.5
broker_numbers = itertools.count(1)


def living(gate: Path) -> list[int]:
    """Return which of the processes that a child named are still running."""
    named = gate / "pids"
    pids = named.read_text().split() if named.exists() else []
    return [pid for pid in map(int, pids) if runs(pid)]


def runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """The folder through which a test talks to its children; afterwards none is left."""
    folder = tmp_path / "gate"
    folder.mkdir()
    yield folder
    try:
        wait_for(lambda: not living(folder), 5)
    finally:
        for pid in living(folder):
            os.kill(pid, signal.SIGKILL)


@dataclass
class Bench:
    """A service of database, storage and broker, without workers until a test starts some."""

    resources: Resources
    gate: Path
    environment: dict[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def log(self, number: int) -> Path:
        """Return the file that takes what the n-th worker says."""
        return self.resources.settings.data_dir / f"worker{number}.log"

    def worker(
        self,
        slots: int = 1,
        module: str = "tests.worker.fake_worker",
        *,
        grace: float = GRACE,
        ready: bool = True,
        within: Sequence[str] = (),
        output: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a worker process; it is killed after the test if it still runs.

        With `ready` a worker that starts its children warm is waited for. A command `within` which
        it is to run ends by becoming the worker.
        """
        words = ("--slots", str(slots), "--grace", str(grace))
        with self.log(len(self.workers)).open("ab") as log:
            out = log.fileno() if output is None else output
            worker = subprocess.Popen(
                [*within, sys.executable, "-m", module, *words],
                cwd=ROOT,
                env=os.environ | self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.workers.append(worker)
        if ready and self.environment["TOPWORK_WARM_START"] == "True":
            said = self.log(len(self.workers) - 1)
            wait_for(lambda: "forkserver.ready" in said.read_text(), 120)
        return worker

    def freeze(self, worker: subprocess.Popen[bytes]) -> None:
        """Stop a worker between its transactions; inside one it would hold up every other."""
        path = self.resources.settings.data_dir / "topwork.db"

        def stopped_without_lock() -> bool:
            worker.send_signal(signal.SIGSTOP)
            asked_at = time.monotonic()
            with contextlib.closing(sqlite3.connect(path, timeout=2.0)) as probe:
                try:
                    with turn(path.with_name(f"{path.name}-turn")):
                        probe.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    pass
                else:
                    if time.monotonic() - asked_at < PATIENCE_SECONDS:
                        return True
            worker.send_signal(signal.SIGCONT)
            return False

        wait_for(stopped_without_lock)

    def submit(self, script: dict[int, str] | None = None, steps: int = 3, **config: Any) -> str:
        """Queue a job whose child does as the script says, and ring."""
        config |= {"script": script or {}, "steps": steps, "gate": str(self.gate)}
        config.setdefault("name", self.gate.parent.name[:50].strip("_"))
        with self.resources.database.write() as session:
            return jobs.submit(session, kind="finetune", config=config).id

    def job(self, job_id: str) -> Job:
        with self.resources.database.read() as session:
            return jobs.get(session, job_id)

    def events(self, job_id: str) -> list[JobEvent]:
        with self.resources.database.read() as session:
            return after(session, job_id)

    def states(self, job_id: str) -> list[str]:
        return [e.data["state"] for e in self.events(job_id) if e.kind == "state"]

    def published(self, job_id: str) -> list[ModelVersion]:
        with self.resources.database.read() as session:
            return list(session.query(ModelVersion).where(ModelVersion.job_id == job_id))

    def wait(self, *names: str) -> None:
        """Wait until the child or the worker has reached a place named in the gate folder."""
        wait_for(lambda: all((self.gate / name).exists() for name in names))

    def go(self) -> None:
        (self.gate / "go").touch()

    def reaches(self, job_id: str, *states: str, timeout: float = 30) -> Job:
        wait_for(lambda: self.job(job_id).state in states, timeout)
        return self.job(job_id)

    def settles(self, job_id: str) -> None:
        """Wait until a job has succeeded and its worker has tidied up after it."""
        self.reaches(job_id, "succeeded")
        wait_for(lambda: not (self.resources.settings.data_dir / "runs" / job_id).exists())

    def cancel(self, job_id: str) -> None:
        with self.resources.database.write() as session:
            jobs.cancel(session, job_id)

    def stop(self) -> None:
        """Take every worker down; each log is shown if the test failed."""
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(10)
        for number in range(len(self.workers)):
            sys.stdout.write(f"--- worker {number}\n{self.log(number).read_text()}\n")


@contextlib.contextmanager
def open_bench(data: Path, gate: Path, broker: str, **changes: Any) -> Iterator[Bench]:
    """Open a bench with quick sweeps on a migrated folder; check its invariants at the end.

    By then no process of its workers runs, and one tidying later nothing is left of them but what
    rows refer to. It gets a number of the broker's own, so that no doorbell of another test rings
    here.
    """
    names: dict[str, Any] = {
        "data_dir": data,
        "broker_url": f"{broker.rpartition('=')[0]}={next(broker_numbers) % 16}",
        "lease_seconds": LEASE,
        "heartbeat_seconds": HEARTBEAT,
        "sweep_seconds": SWEEP,
        "cancel_grace_seconds": 2.0,
        "warm_start": False,
    } | changes
    environment = {f"TOPWORK_{name.upper()}": str(value) for name, value in names.items()}
    with own_tmp() as temporary, open_resources(Settings(**names)) as resources:
        bench = Bench(resources, gate, environment | {"TMPDIR": str(temporary)})
        try:
            yield bench
        finally:
            bench.stop()
        assert broken_after_tidying(resources) == []


@pytest.fixture
def make_bench(
    settings: Settings, gate: Path, valkey: str
) -> Callable[..., contextlib.AbstractContextManager[Bench]]:
    """Benches with other settings than most."""
    return partial(open_bench, settings.data_dir, gate, valkey)


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Iterator[Bench]:
    """A bench of the test's own."""
    with make_bench() as made:
        yield made


@pytest.fixture(scope="module")
def shared_bench(
    tmp_path_factory: pytest.TempPathFactory, migrated: Path, valkey: str
) -> Iterator[Bench]:
    """A bench with one worker for every test of a module that leaves the worker alone."""
    data = tmp_path_factory.mktemp("bench")
    shutil.copy(migrated, data / "topwork.db")
    with open_bench(data, data, valkey) as made:
        made.worker()
        yield made


@pytest.fixture
def calm(shared_bench: Bench, gate: Path) -> Bench:
    """The module's bench and worker, with a gate of the test's own."""
    return dataclasses.replace(shared_bench, gate=gate)
