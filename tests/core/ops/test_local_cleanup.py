"""What no row refers to goes away; what a retry or a running job needs stays."""

import fcntl
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.domain import datasets, jobs
from core.domain.checkpoints import KEEP_SECONDS
from core.ops import local_cleanup
from core.store.resources import Resources
from core.store.tables import Job

OLD = time.time() - KEEP_SECONDS - 60


def folder(path: Path, *, old: bool = False) -> Path:
    (path / "inside").mkdir(parents=True)
    if old:
        os.utime(path, (OLD, OLD))
    return path


def job_in(
    resources: Resources, state: str, dataset_id: str | None = None, *, ended: float | None = None
) -> Job:
    with resources.database.write() as session:
        job = jobs.submit(session, kind="finetune", config={}, dataset_id=dataset_id)
        job.state, job.finished_at = state, ended
        return job


@pytest.mark.parametrize(
    ("state", "ended", "old", "kept"),
    [
        ("running", None, True, True),
        ("queued", None, True, True),
        ("failed", "now", False, True),
        ("failed", "now", True, True),  # Its last attempt took more than a week.
        ("cancelled", "now", True, True),
        ("failed", "long ago", True, False),
        ("cancelled", "long ago", False, False),
        ("succeeded", "now", False, False),
        (None, None, False, False),
    ],
)
def test_attempts_stay_while_they_can_go_on(
    resources: Resources, state: str | None, ended: str | None, *, old: bool, kept: bool
) -> None:
    at = {"now": time.time(), "long ago": OLD}.get(ended or "")
    name = job_in(resources, state, ended=at).id if state else "job_deleted"
    path = folder(resources.settings.data_dir / "runs" / name, old=old)
    local_cleanup.tidy(resources)
    assert path.exists() is kept


@pytest.mark.parametrize(
    ("known", "running", "old", "kept"),
    [
        (True, False, False, True),
        (True, True, True, True),
        (True, False, True, False),
        (False, False, False, False),
    ],
)
def test_copies_of_datasets_stay_while_they_are_used(
    resources: Resources, *, known: bool, running: bool, old: bool, kept: bool
) -> None:
    if known:
        with resources.database.write() as session:
            dataset = datasets.create(session, name="pets", upload=None, metadata={})
            datasets.publish(session, dataset, number=1, digest="d1", prefix="p", summary={})
        job_in(resources, "running" if running else "succeeded", dataset.id)
    path = folder(resources.settings.data_dir / "cache" / "datasets" / "d1", old=old)
    local_cleanup.tidy(resources)
    assert path.exists() is kept


def test_arrays_beyond_the_budget_go_and_those_in_use_stay(resources: Resources) -> None:
    arrays = resources.settings.data_dir / "cache" / "arrays"
    arrays.mkdir(parents=True)
    for age, name in enumerate(("new", "old", "used")):
        (arrays / name).write_bytes(b"x" * 100)
        os.utime(arrays / name, (OLD - age, OLD - age))
    settings = resources.settings.model_copy(update={"cache_bytes": 250})
    with (arrays / "used").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        local_cleanup.tidy(replace(resources, settings=settings))
    assert {path.name for path in arrays.iterdir()} == {"new", "used"}
