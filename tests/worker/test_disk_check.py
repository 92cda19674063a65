"""A job is claimed only where both its work and its result find room."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.store.object_store import Storage
from core.store.resources import Resources
from core.store.tables import Job
from tests.disks import disk_with
from worker.disk_check import lacking
from worker.kinds.kind import Work

MEGABYTE = 10**6
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system that every Linux has beside the disk.


@pytest.fixture
def split(resources: Resources) -> Iterator[Resources]:
    """A service that keeps its storage on another disk, with a reserve of 100 MB."""
    if not SHARED_MEMORY.is_dir():
        pytest.skip("there is no second file system")
    settings = resources.settings.model_copy(update={"disk_reserve_bytes": 100 * MEGABYTE})
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        yield replace(resources, settings=settings, storage=Storage(f"file://{folder}"))


@pytest.mark.parametrize(
    ("here", "there", "missing"),
    [
        (900, 200, None),
        (800, 200, "900 MB of free disk, and 800 MB"),
        (900, 100, "150 MB of free disk for the storage, and 100 MB"),
    ],
)
def test_a_storage_on_another_disk_needs_room_as_well(
    split: Resources, monkeypatch: pytest.MonkeyPatch, here: int, there: int, missing: str | None
) -> None:
    free = {split.settings.data_dir: here, split.storage.root: there}
    monkeypatch.setattr(os, "statvfs", lambda path: disk_with(free[path] * MEGABYTE))
    work = Work(
        "none",
        None,  # type: ignore[arg-type]  # It is only asked for sizes.
        None,  # type: ignore[arg-type]  # As above.
        needs=lambda *_: 800 * MEGABYTE,
        stores=lambda *_: 50 * MEGABYTE,
    )
    told = lacking(split, Job(kind="finetune"), work)
    assert told is None if missing is None else missing in str(told)


def test_a_storage_on_the_same_disk_is_not_counted_twice(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stat(path: Path) -> os.statvfs_result:
        asked.append(path)
        return disk_with(10**12)

    monkeypatch.setattr(os, "statvfs", stat)
    assert lacking(resources, Job(kind="finetune"), None) is None
    assert asked == [resources.settings.data_dir]
