"""Disk check: whether this machine's disks have room for a job, before its work begins."""

import shutil
from pathlib import Path

from core.store.resources import Resources
from core.store.tables import Job
from worker.kinds.kind import Work

MEGABYTE = 10**6


def lacking(resources: Resources, job: Job, work: Work | None) -> str | None:
    """Return in words what is missing of the disk for this job; None where it fits.

    Storage in a folder on a disk of its own is looked at as well: a result that finds no room
    there was made in vain.
    """
    data, root = resources.settings.data_dir, resources.storage.root
    missing = _short(resources, data, work.needs(resources, job) if work else 0, "disk")
    if missing is None and root is not None and root.stat().st_dev != data.stat().st_dev:
        stored = work.stores(resources, job) if work else 0
        missing = _short(resources, root, stored, "disk for the storage")
    return missing


def _short(resources: Resources, folder: Path, size: int, what: str) -> str | None:
    needed = resources.settings.disk_reserve_bytes + size
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    short, has = (f"{size / MEGABYTE:.0f} MB" for size in (needed, free))
    return f"the job needs {short} of free {what}, and {has} are free; it starts by itself then"
