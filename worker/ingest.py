"""An ingest job: an uploaded archive in, the first version of its dataset out."""

import json
from pathlib import Path
from typing import Any

from core import datasets, leases
from core.errors import DatasetNotFound
from core.resources import Resources
from core.tables import Job
from worker.work import Check, Work, upload

FIRST = 1
LIMITS = ("max_archive_entries", "max_entry_bytes", "max_expanded_bytes", "max_image_pixels")


def stage(resources: Resources, job: Job, folder: Path, check: Check) -> dict[str, Any]:
    """Bring the uploaded archive to this machine."""
    with resources.database.read() as session:
        dataset = datasets.get(session, str(job.dataset_id))
    if dataset.upload is None:
        raise DatasetNotFound(f"the upload of {dataset.id} is gone")
    check()
    resources.storage.fetch(dataset.upload, folder / "archive")
    return {
        "archive": str(folder / "archive"),
        "split": job.config["split"],
        "limits": resources.settings.model_dump(include=set(LIMITS)),
    }


def publish(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    """Store shards by content and the manifest by attempt; the commit makes it a version."""
    storage, result = resources.storage, folder / "result"
    for shard in sorted((result / "shards").iterdir()):
        check()
        if not storage.exists(f"shards/{shard.name}"):
            storage.put_file(f"shards/{shard.name}", shard)
    prefix = f"datasets/{job.dataset_id}/{FIRST}/{job.fence}"
    upload(storage, result, prefix, check)
    summary = json.loads((result / "dataset.json").read_text())
    check()
    with resources.database.write() as session:
        leases.held(session, job.id, job.fence)
        dataset = datasets.get(session, str(job.dataset_id), lock=True)
        datasets.publish(
            session,
            dataset,
            number=FIRST,
            digest=summary["digest"],
            prefix=prefix,
            summary=summary,
        )
        archive, dataset.upload = dataset.upload, None
        facts = {
            "dataset": f"{dataset.id}@{FIRST}",
            "images": summary["images"],
            "classes": len(summary["classes"]),
        }
        leases.succeed(session, job.id, job.fence, facts)
    if archive is not None:
        storage.delete(archive)


INGEST = Work("core.ingest", stage, publish)
