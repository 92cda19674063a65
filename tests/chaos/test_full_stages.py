"""T9: the disk is full to the last byte when a job comes to a named point; it outlives that.

A process stops itself at a failpoint, the disk is filled, and the process goes on. Models are
published on 24 and 64 MB and a training runs on 64 MB, as its preflight wants 32 MiB for small
files and some for checkpoints: on 24 MB it waits. An ingestion gets 128 MB.
"""

import io
import json
import os
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.domain import datasets
from core.store.tables import DatasetVersion
from core.system.failpoints import VARIABLE
from models.training import checkpoint
from tests.chaos.conftest import Tell
from tests.chaos.killing import new_run, outcome, pictures, trainers
from tests.chaos.small_disk import SmallDisk, go_on, halted, integrity, mounted
from tests.invariants import broken, broken_after_tidying
from tests.waiting import wait_for
from tests.worker.conftest import Bench
from tests.worker.kinds.test_ingest import archive, order
from topwork.errors import DiskFull
from worker import outcomes
from worker.kinds.kind import download
from worker.process.job_process import Ending, Exit

pytestmark = [pytest.mark.chaos, pytest.mark.nightly, pytest.mark.timeout(900)]
FAKE = "tests.worker.fake_worker"
DATABASE_FULL = "database or disk is full"  # As SQLite says it.
# The undisturbed model before it takes two files and one commit.
OF_MODEL = ["storage.between_files@3", "storage.between_files@4", "publish.before_commit@2"]
# The undisturbed data set before it takes eight images, four objects and one commit.
OF_DATASET = [
    "ingest.after_image@20",
    "storage.between_files@5",
    "storage.between_files@8",
    "publish.before_commit@2",
]
LENET: dict[str, Any] = {
    "architecture": "lenet",
    "augmentation": "standard",
    "hyperparameters": {"epochs": 3, "batch_size": 8},
}


@contextmanager
def cramped(
    disk: SmallDisk, make_bench: Callable[..., Any], migrated: Path, point: str
) -> Iterator[Bench]:
    """A bench on a small disk whose worker or its child stops itself once; its log is elsewhere."""
    data, outside = disk.path / "data", disk.path.parent
    data.mkdir()
    shutil.copy(migrated, data / "topwork.db")
    (data / "worker0.log").symlink_to(outside / "worker0.log")
    with make_bench(data_dir=data, disk_reserve_bytes=0) as bench:
        name, _, visit = point.partition("@")
        bench.environment[VARIABLE] = f"{name}=stop@{visit}?{outside / 'halted'}"
        yield bench
        assert (outside / "halted").exists()
        bench.stop()
        assert integrity(data / "topwork.db") == "ok"
        assert broken_after_tidying(bench.resources) == []


def meets_a_full_disk(bench: Bench, disk: SmallDisk, still: Callable[[], None]) -> None:
    """Fill the disk while a process has stopped, and see it end; what was there is readable."""
    pids = halted(bench.workers[0].pid)
    before = ended(bench)
    with disk.full():
        go_on(pids)

        def another_ended() -> bool:
            disk.top_up()
            return ended(bench) > before

        wait_for(another_ended, 60)
        assert integrity(bench.resources.settings.data_dir / "topwork.db") == "ok"
        assert broken(bench.resources) == []
        still()


def ended(bench: Bench) -> int:
    """Return how many attempts have ended, given up for want of a renewed lease included."""
    log = bench.log(0).read_text()
    return log.count("job.ended") + log.count("job.lost")


def told(bench: Bench, job_id: str) -> set[str]:
    """Return our own words for a full disk with which a job was queued again or not kept.

    A database without room takes no reason: then the lease runs out, and the log tells why.
    """
    reasons = {str(event.data.get("reason")) for event in bench.events(job_id)}
    lines = bench.log(0).read_text().splitlines()
    unkept = [line for line in lines if "lease.unrenewed" in line and job_id in line]
    full = {DATABASE_FULL for line in unkept if DATABASE_FULL in line}
    return full | reasons & {DiskFull().message, outcomes.FULL}


def succeeds(bench: Bench, job_id: str) -> None:
    job = bench.reaches(job_id, "succeeded", "failed", timeout=120)
    assert job.state == "succeeded", job.error


@pytest.mark.parametrize("mebibytes", [24, 64])
@pytest.mark.parametrize("point", OF_MODEL)
def test_a_model_is_published_once_there_is_room(
    mebibytes: int,
    point: str,
    make_bench: Callable[..., Any],
    migrated: Path,
    tmp_path: Path,
    tell: Tell,
) -> None:
    with (
        mounted(tmp_path / "small", mebibytes) as disk,
        cramped(disk, make_bench, migrated, point) as bench,
    ):
        bench.worker(module=FAKE)
        calm_id = bench.submit(name="calm")
        succeeds(bench, calm_id)
        (calm,) = bench.published(calm_id)
        job_id = bench.submit(name="cats")

        def still() -> None:
            files = tmp_path / "fetched"
            download(bench.resources, calm.prefix, calm.files, files, lambda: None)
            assert not bench.published(job_id)

        meets_a_full_disk(bench, disk, still)
        succeeds(bench, job_id)
        (version,) = bench.published(job_id)
        assert (version.number, version.digest) == (1, calm.digest)
        reasons = told(bench, job_id)
        assert reasons
        tell(f"T9 {point}: {sorted(reasons)}, then published with the same hash")


def grains() -> bytes:
    """Return an archive of two classes of noise, a megabyte in all."""
    rng, file = np.random.default_rng(3), io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for number in range(80):
            pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "PNG")
            made.writestr(f"{'cat' if number % 2 else 'dog'}/{number}.png", image.getvalue())
    return file.getvalue()


def version_of(bench: Bench, dataset_id: str) -> list[DatasetVersion]:
    with bench.resources.database.read() as session:
        return datasets.versions(session, dataset_id)


@pytest.mark.parametrize("point", OF_DATASET)
def test_a_dataset_is_read_and_published_once_there_is_room(
    point: str, make_bench: Callable[..., Any], migrated: Path, tmp_path: Path, tell: Tell
) -> None:
    with (
        mounted(tmp_path / "small", 128) as disk,
        cramped(disk, make_bench, migrated, point) as bench,
    ):
        storage = bench.resources.storage
        bench.worker(module="worker")
        _, calm_id, _ = order(bench, archive("cat", "dog"))
        succeeds(bench, calm_id)
        (old,) = storage.list("shards")
        before = storage.get_bytes(old)
        dataset_id, job_id, _ = order(bench, grains())

        def still() -> None:
            assert storage.get_bytes(old) == before
            assert not version_of(bench, dataset_id)

        meets_a_full_disk(bench, disk, still)
        succeeds(bench, job_id)
        (version,) = version_of(bench, dataset_id)
        reasons = told(bench, job_id)
        assert reasons
        tell(f"T9 {point}: {sorted(reasons)}, then published with the same hash")
        again_id, again, _ = order(bench, grains())
        succeeds(bench, again)
        assert version_of(bench, again_id)[0].digest == version.digest


@pytest.mark.parametrize("point", ["cache.after_part", "checkpoint.between_files@4"])
def test_a_training_keeps_its_last_checkpoint(point: str, tmp_path: Path, tell: Tell) -> None:
    data = pictures(tmp_path / "data", each=8, side=32, classes=3)
    straight = new_run(tmp_path / "straight", data, LENET)
    with mounted(tmp_path / "small", 64) as disk, trainers() as ready:
        ready.finish(straight)
        run = new_run(disk.path / "run", data, LENET)
        exits: list[Exit] = []
        name, _, visit = point.partition("@")
        halt = f"{name}=stop@{visit or 1}?{tmp_path / 'halted'}"
        attempt = threading.Thread(target=lambda: exits.append(ready.attempt(run, failpoints=halt)))
        attempt.start()
        pids = halted(os.getpid())
        with disk.full():
            go_on(pids)
            attempt.join(60)
            saved = sorted((run / "checkpoint").rglob("step-*.safetensors"))
            for path in saved:
                assert checkpoint.read(path)
        (first,) = exits
        if first.ending is Ending.REFUSED:
            assert json.loads((run / "error.json").read_text())["code"] == DiskFull.code
        else:  # There was no room even for the reason.
            assert first.ending is Ending.DISK_FULL
        assert saved or point.startswith("cache.")
        ready.finish(run)
        assert outcome(run) == outcome(straight)
        tell(f"T9 {point}: {first}, {len(saved)} checkpoints readable, then the same hash")


def test_a_training_waits_for_a_disk_on_which_it_fits(
    make_bench: Callable[..., Any], migrated: Path, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", 24) as disk:
        data = disk.path / "data"
        data.mkdir()
        shutil.copy(migrated, data / "topwork.db")
        with make_bench(data_dir=data, disk_reserve_bytes=0) as bench:
            bench.worker(module="worker")
            job_id = bench.submit(name="cats", architecture="lenet")
            wait_for(lambda: bench.job(job_id).lacks == "disk")
            assert (bench.job(job_id).state, bench.job(job_id).attempt) == ("queued", 0)
            grow(disk, 64)
            # It is claimed then, and ends as it names no data set.
            assert bench.reaches(job_id, "failed").attempt > 0


def grow(disk: SmallDisk, mebibytes: int) -> None:
    size = f"remount,size={mebibytes}m"
    subprocess.run(["/usr/bin/mount", "-o", size, str(disk.path)], check=True)
