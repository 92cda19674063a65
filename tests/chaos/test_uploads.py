"""T7: the api dies all along an upload; what was acknowledged is never sent again.

Its first and its last request each lose an answer that was committed, by a failpoint.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.domain import datasets, jobs
from core.store.tables import Job
from core.system import failpoints
from tests.app.api.uploads.test_upload_kills import arrived, revived
from tests.app.apiprocess import Api, start
from tests.chaos.conftest import Tell, times
from tests.core.ingested import prepare
from tests.e2e.conftest import zip_of
from tests.invariants import broken_after_tidying
from tests.models.staging import png
from tests.waiting import wait_for
from topwork import Topwork
from topwork.client import sources
from topwork.client.exchange import RETRIES
from topwork.client.synchronous import resumable_upload as client_pieces
from topwork.client.synchronous import transport as client_http

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
KILLS = 20
PIECE = 32 * 1024
IMAGES, SIDE = 160, 128  # About 240 pieces of noise.
PATIENCE = 8  # Tries of the first request: the client gives up early where nothing is sent yet.


def archive(folder: Path, chance: random.Random) -> Path:
    rng, path = np.random.default_rng(chance.randrange(2**32)), folder / "pets.zip"
    noise = [rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8) for _ in range(IMAGES)]
    named = {f"{'cat' if n % 2 else 'dog'}/{n}.png": png(one) for n, one in enumerate(noise)}
    path.write_bytes(zip_of(named))
    return path


def along(size: int, kills: int, chance: random.Random) -> list[int]:
    """Return one random point of each of as many equal parts of an upload."""
    return [chance.randrange(size * n // kills, size * (n + 1) // kills) for n in range(kills)]


class Killer:
    """Kills the api some milliseconds after the upload has come to each of some points.

    It waits until the api is back before it takes up the next point, so that each is one death.

    Args:
        api: What dies.
        deaths: The exit codes so far, those of failpoints among them.
        points: Bytes of the upload.
        chance: Says how much later than the point.
    """

    def __init__(
        self, api: Api, deaths: list[int], points: list[int], chance: random.Random
    ) -> None:
        self.api, self.deaths, self.points, self.chance = api, deaths, points, chance
        self.struck, self.armed = 0, False

    def progress(self, position: int, _total: int) -> None:
        back = len(self.deaths) == self.struck + 1  # The first request's death comes before.
        if self.points and position >= self.points[0] and back and not self.armed:
            self.points.pop(0)
            self.armed = True
            # While the piece is on its way, or after it.
            signal.setitimer(signal.ITIMER_REAL, self.chance.uniform(1e-6, 0.02))

    def strike(self, *_: object) -> None:
        if self.api.process.poll() is None:
            self.api.process.kill()
            self.struck, self.armed = self.struck + 1, False
        else:  # The next one is just being started.
            signal.setitimer(signal.ITIMER_REAL, 0.01)

    def rests(self) -> bool:
        """Tell whether every death that was ordered has been seen, the two of failpoints too."""
        return not self.armed and len(self.deaths) == self.struck + 2


@contextmanager
def worker(api: Api) -> Iterator[None]:
    """A worker on the api's data."""
    with (api.data / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "--slots", "1"],
            env=api.environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def ingested(api: Api, job_id: str) -> tuple[bytes, object]:
    """Wait until a dataset is sealed; return its manifest and how it was told to split."""

    def ended() -> Job | None:
        with api.resources.database.read() as session:
            job = jobs.get(session, job_id)
        return job if job.finished_at else None

    with worker(api):
        job = wait_for(ended, 120)
    assert job.state == "succeeded", job.error
    with api.resources.database.read() as session:
        version = datasets.version(session, str(job.dataset_id))
    manifest = api.resources.storage.get_bytes(f"{version.prefix}/manifest.jsonl")
    return manifest, job.config["split"]


def ingested_here(folder: Path, path: Path, split: object) -> bytes:
    """Return the manifest of an archive that no network has carried."""
    prepare(folder, path, split, None)
    subprocess.run([sys.executable, "-m", "core.ingest", str(folder)], check=True)
    return (folder / "result" / "manifest.jsonl").read_bytes()


@pytest.mark.nightly
def test_t7_the_api_is_killed_twenty_times_in_one_upload(
    tmp_path: Path,
    migrated: Path,
    valkey: str,
    monkeypatch: pytest.MonkeyPatch,
    chance: random.Random,
    tell: Tell,
) -> None:
    monkeypatch.setattr(sources, "LARGE", PIECE)
    monkeypatch.setattr(sources, "PIECE", PIECE)
    monkeypatch.setattr(client_pieces, "PAUSE", 0.1)
    path = archive(tmp_path, chance)
    size = path.stat().st_size
    pieces = -(-size // PIECE)
    answered: list[int] = []
    send, use_up, tries = client_pieces._send_piece, client_pieces._use_up, RETRIES
    once = tmp_path / "answer.lost"
    monkeypatch.setattr(client_http, "RETRIES", PATIENCE)

    def noted(*given: object) -> int:
        if not answered:  # The upload is announced: what the client does from here on is its own.
            assert once.exists()
            monkeypatch.setattr(client_http, "RETRIES", tries)
        answered.append(send(*given))  # type: ignore[arg-type] # As given.
        return answered[-1]

    def used_up(*given: Any, **fields: Any) -> Any:
        once.unlink()  # The next answer to a commit is this request's.
        return use_up(*given, **fields)

    monkeypatch.setattr(client_pieces, "_send_piece", noted)
    monkeypatch.setattr(client_pieces, "_use_up", used_up)
    environment: dict[str, Any] = {
        "TOPWORK_BROKER_URL": valkey,
        "TOPWORK_WARM_START": "False",
        "TOPWORK_SWEEP_SECONDS": "1",
        failpoints.VARIABLE: f"api.before_answer=kill?{once}",
    }
    for api in start(tmp_path, migrated, **environment):
        with revived(api) as deaths, Topwork(api.url) as topwork:
            killer = Killer(api, deaths, along(size, times(KILLS), chance), chance)
            before = signal.signal(signal.SIGALRM, killer.strike)
            job = topwork.datasets.create(path, on_bytes=killer.progress)
            # The last one may strike behind the last answer, as any death may.
            wait_for(killer.rests)
            signal.signal(signal.SIGALRM, before)
        assert once.exists(), "the last request has kept its answer"
        for left in (api.data / "uploads").iterdir():
            os.utime(left, (0, 0))  # The api died before it removed this, and a sweep will.
        assert arrived(api, path)
        assert killer.struck == times(KILLS)
        assert deaths == [-signal.SIGKILL] * (times(KILLS) + 2)
        assert answered == sorted(set(answered)), "an acknowledged byte was lost or sent again"
        manifest, split = ingested(api, job.id)
        assert manifest == ingested_here(tmp_path / "here", path, split)
        assert not list((api.data / "tmp").glob("*"))
        assert not broken_after_tidying(api.resources)
    tell(
        f"T7 {len(deaths)} kills from the first request to the last, {len(answered)} answers for"
        f" {pieces} pieces, the sealed manifest equal to a local one"
    )
