"""T7: the api dies at random points of an upload; what was acknowledged is never sent again."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from app.client import Topwork
from app.client import pieces as client_pieces
from core import datasets, jobs
from tests.app.apiprocess import Api, start
from tests.app.test_upload_kills import arrived, revived
from tests.chaos.conftest import Tell, times
from tests.core.ingested import prepare
from tests.e2e.conftest import zip_of
from tests.invariants import broken
from tests.models.staging import png
from tests.waiting import wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
KILLS = 20
PIECE = 64 * 1024
IMAGES, SIDE = 160, 128  # About 120 pieces of noise.


def archive(folder: Path, chance: random.Random) -> Path:
    rng, path = np.random.default_rng(chance.randrange(2**32)), folder / "pets.zip"
    noise = [rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8) for _ in range(IMAGES)]
    named = {f"{'cat' if n % 2 else 'dog'}/{n}.png": png(one) for n, one in enumerate(noise)}
    path.write_bytes(zip_of(named))
    return path


class Killer:
    """Kills the api some milliseconds after the upload has come to each of some points.

    It waits until the api is back before it takes up the next point, so that each is one death.
    """

    def __init__(
        self, api: Api, deaths: list[int], points: list[int], chance: random.Random
    ) -> None:
        self.api, self.deaths, self.points, self.chance = api, deaths, sorted(points), chance
        self.ordered = 0

    def progress(self, position: int, _total: int) -> None:
        if self.points and position >= self.points[0] and len(self.deaths) == self.ordered:
            self.points.pop(0)
            self.ordered += 1
            # While the piece is on its way, or after it.
            signal.setitimer(signal.ITIMER_REAL, self.chance.uniform(1e-6, 0.02))

    def strike(self, *_: object) -> None:
        if self.api.process.poll() is None:
            self.api.process.kill()
        else:  # The next one is just being started.
            signal.setitimer(signal.ITIMER_REAL, 0.01)


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

    def ended() -> jobs.Job | None:
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


def test_t7_the_api_is_killed_twenty_times_in_one_upload(
    tmp_path: Path,
    migrated: Path,
    valkey: str,
    monkeypatch: pytest.MonkeyPatch,
    chance: random.Random,
    tell: Tell,
) -> None:
    for name, value in {"LARGE": PIECE, "PIECE": PIECE, "PAUSE": 0.1}.items():
        monkeypatch.setattr(client_pieces, name, value)
    path = archive(tmp_path, chance)
    pieces = -(-path.stat().st_size // PIECE)
    # What comes after the last point leaves time for the deaths that had to wait for others.
    points = chance.sample(range(PIECE, (pieces // 2) * PIECE), times(KILLS))
    answered: list[int] = []
    send = client_pieces._send_piece

    def noted(*given: object) -> int:
        answered.append(send(*given))  # type: ignore[arg-type] # As given.
        return answered[-1]

    monkeypatch.setattr(client_pieces, "_send_piece", noted)
    quiet = {"TOPWORK_BROKER_URL": valkey, "TOPWORK_WARM_START": "False"}
    for api in start(tmp_path, migrated, **quiet):
        with revived(api) as deaths, Topwork(api.url) as topwork:
            killer = Killer(api, deaths, points, chance)
            before = signal.signal(signal.SIGALRM, killer.strike)
            job = topwork.datasets.create(path, on_bytes=killer.progress)
            signal.signal(signal.SIGALRM, before)
        assert arrived(api, path)
        assert deaths == [-signal.SIGKILL] * times(KILLS)
        assert answered == sorted(set(answered)), "an acknowledged byte was lost or sent again"
        manifest, split = ingested(api, job.id)
        assert manifest == ingested_here(tmp_path / "here", path, split)
        assert not broken(api.resources)
    tell(
        f"T7 {len(deaths)} kills, {len(answered)} answers for {pieces} pieces, the sealed manifest"
        " equal to a local one"
    )
