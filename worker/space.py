"""Whether this machine's disk has room for a job, before any of its work is done."""

import shutil

from core.resources import Resources
from core.tables import Job
from worker.work import Work

MEGABYTE = 10**6


def lacking(resources: Resources, job: Job, work: Work | None) -> str | None:
    """Return in words what is missing of the disk for this job; None where it fits."""
    settings = resources.settings
    needed = settings.disk_reserve_bytes + (work.needs(resources, job) if work else 0)
    free = shutil.disk_usage(settings.data_dir).free
    if free >= needed:
        return None
    short, has = (f"{size / MEGABYTE:.0f} MB" for size in (needed, free))
    return f"the job needs {short} of free disk, and {has} are free; it starts by itself then"
