"""T24: decoder processes are killed while they read a dataset; not one image is lost."""

import contextlib
import io
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.domain import datasets, jobs
from tests.app.processes import command_line, descendants
from tests.chaos.conftest import Tell, times
from tests.chaos.trainings import reasons
from tests.waiting import wait_for
from tests.worker.conftest import Bench

pytestmark = pytest.mark.chaos
IMAGES, SIDE, KILLS = 240, 600, 3
# Images of 64 MiB, 59 of these, are read before the first decoder has to be ready.
AT_WORK = 0.3


def archive() -> bytes:
    """A zip of two classes whose pictures take a while to decode."""
    rng, buffer = np.random.default_rng(1), io.BytesIO()
    noise = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(IMAGES):
            picture = io.BytesIO()
            Image.fromarray(np.roll(noise, 7 * number)).save(picture, "PNG", compress_level=1)
            file.writestr(f"{'cat' if number % 2 else 'dog'}/{number}.png", picture.getvalue())
    return buffer.getvalue()


def ingest(bench: Bench, content: bytes, key: str) -> tuple[str, str]:
    bench.resources.storage.put_bytes(f"uploads/{key}", content)
    split = {"val": 0.25, "test": 0.0, "seed": 42}
    with bench.resources.database.write() as session:
        dataset = datasets.create(session, name=key, upload=f"uploads/{key}", metadata={})
        config = {"split": split}
        job = jobs.submit(session, kind="ingest", config=config, dataset_id=dataset.id)
        return dataset.id, job.id


def finished(bench: Bench, dataset_id: str, job_id: str) -> tuple[str, int]:
    """Return digest and number of images of an ingested dataset."""
    job = bench.reaches(job_id, "succeeded", "failed", timeout=120)
    assert job.result is not None, job.error
    with bench.resources.database.read() as session:
        return datasets.version(session, dataset_id).digest, job.result["images"]


def kill_one(worker: int, chance: random.Random) -> bool:
    """Kill a decoder if there is one."""
    found = [pid for pid in descendants(worker) if "ingest.decoders" in command_line(pid)]
    if found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(found), signal.SIGKILL)
    return bool(found)


@pytest.mark.nightly
def test_killed_decoders_cost_no_image(
    make_bench: Callable[..., Any], chance: random.Random, tell: Tell
) -> None:
    """The first is killed before it is ready, which costs the job an attempt; others at work."""
    content = archive()
    with make_bench() as bench:
        worker = bench.worker(module="worker")
        wanted = finished(bench, *ingest(bench, content, "calm"))
        order = ingest(bench, content, "disturbed")
        wait_for(lambda: kill_one(worker.pid, chance))
        wait_for(lambda: bench.job(order[1]).attempt == 2)
        kills = 0
        for _ in range(times(KILLS)):
            wait_for(lambda: kill_at_work(bench, worker.pid, order[1], chance), 60)
            kills += bench.job(order[1]).finished_at is None
            time.sleep(chance.uniform(0.1, 0.5))
        assert finished(bench, *order) == wanted
        said = reasons(bench, order[1])
        assert bench.job(order[1]).attempt == len(said) + 1 <= kills + 2
        assert all("a decoder process does not start" in reason for reason in said), said
    tell(
        f"T24 1 decoder killed before it was ready and {kills} while {IMAGES} images were read:"
        f" the same dataset, attempt {len(said) + 1}: {said[0]}"
    )
    assert kills > 0


def kill_at_work(bench: Bench, worker: int, job_id: str, chance: random.Random) -> bool:
    """Kill a decoder if images have been decoded; true is also the end of the job."""
    job = bench.job(job_id)
    at_work = job.progressed and job.progress > AT_WORK
    return job.finished_at is not None or (at_work and kill_one(worker, chance))
