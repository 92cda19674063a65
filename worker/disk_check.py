"""Disk check: whether this machine's disks have room for a job, before its work begins."""

from core.store.resources import Resources
from core.store.tables import Job
from core.system import disk
from worker.kinds.kind import Work


def lacking(resources: Resources, job: Job, work: Work | None) -> str | None:
    """Return in words what is missing of the disk for this job; None where it fits.

    Storage in a folder on a disk of its own is looked at as well: a result that finds no room
    there was made in vain.
    """
    data, root = resources.settings.data_dir, resources.storage.root
    reserve = resources.settings.disk_reserve_bytes
    missing = disk.lacking(data, work.needs(resources, job) if work else 0, reserve)
    if missing is None and root is not None and root.stat().st_dev != data.stat().st_dev:
        stored = work.stores(resources, job) if work else 0
        missing = disk.lacking(root, stored, reserve, "disk for the storage")
    return missing and f"the job needs {missing}; it starts by itself then"
