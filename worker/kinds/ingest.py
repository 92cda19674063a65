"""An ingest job: an uploaded archive in, the first version of its dataset out."""

import json
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from core.domain import datasets, leases, usage
from core.domain.products import FIRST, PLACES
from core.ops import garbage
from core.store.resources import Resources
from core.store.tables import Dataset, Job
from core.system.failpoints import hit
from topwork.errors import DatasetNotFound
from topwork.kinds import Product
from worker.kinds.kind import Check, Work, fetch_upload, upload

LIMITS = ("max_archive_entries", "max_entry_bytes", "max_expanded_bytes", "max_image_pixels")


def stage(resources: Resources, job: Job, folder: Path, check: Check) -> dict[str, Any]:
    """Bring the uploaded archive to this machine.

    Raises:
        IntegrityError: It is not the one that was received, where its hash was known then.
    """
    with resources.database.read() as session:
        dataset = datasets.get(session, str(job.dataset_id))
        room = usage.room_to_unpack(session, resources.settings, job, dataset.owner)
    if dataset.upload is None:
        raise DatasetNotFound(f"the upload of {dataset.id} is gone")
    check()
    fetch_upload(resources, dataset.upload, job, folder / "archive")
    return {
        "archive": str(folder / "archive"),
        "split": job.config["split"],
        "answers": job.config.get("answers", {}),
        "room": room,
        "reserve": resources.settings.disk_reserve_bytes,
        "limits": resources.settings.model_dump(include=set(LIMITS)),
    }


def publish(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    """Store shards by content and the manifest by attempt; the commit makes it a version."""
    storage, result = resources.storage, folder / "result"
    shards = {f"shards/{path.name}": path for path in sorted((result / "shards").iterdir())}
    prefix = PLACES[Product.DATASET_VERSION].prefix(job)
    with resources.database.write() as session:
        usage.in_line(session)
        held = leases.held(session, job.id, job.fence)
        owner = datasets.get(session, str(job.dataset_id)).owner
        size = sum(path.stat().st_size for path in shards.values())
        usage.charge(session, resources.settings, held, owner, size)
    upload(storage, result, prefix, check)
    summary = json.loads((result / "dataset.json").read_text())
    missing = [key for key in shards if not storage.exists(key)]
    while True:
        for key in missing:
            check()
            storage.put_file(key, shards[key])
            hit("storage.between_files")
        check()
        with resources.database.write() as session:
            # A shard that was there before may have been garbage, and gone by now.
            garbage.hold(session)
            missing = [key for key in shards if not storage.exists(key)]
            if not missing:
                archive = _commit(session, job, prefix, summary, [p.stem for p in shards.values()])
                break
    hit("publish.after_commit")
    if archive is not None:
        garbage.discard(resources, [archive])


def _commit(
    session: Session, job: Job, prefix: str, summary: dict[str, Any], shards: list[str]
) -> str | None:
    """Publish the version together with the job's success; return the upload's key."""
    leases.held(session, job.id, job.fence)
    dataset = datasets.get(session, str(job.dataset_id), lock=True)
    digest = summary["digest"]
    datasets.publish(
        session, dataset, number=FIRST, digest=digest, prefix=prefix, summary=summary, shards=shards
    )
    archive, dataset.upload = dataset.upload, None
    facts = {
        "dataset": f"{dataset.id}@{FIRST}",
        "images": summary["images"],
        "classes": len(summary["classes"]),
    }
    leases.succeed(session, job.id, job.fence, facts)
    hit("publish.before_commit")
    return archive


def needs(resources: Resources, job: Job) -> int:
    """Return the bytes of the archive's copy and of the shards."""
    return 2 * stores(resources, job)


def stores(resources: Resources, job: Job) -> int:
    """Return the bytes of the shards: those of the archive, as images are kept as they are."""
    with resources.database.read() as session:
        dataset = session.get(Dataset, job.dataset_id)
    if dataset is None or dataset.upload is None:
        return 0
    return resources.storage.size(dataset.upload)


WORK = Work("core.ingest", stage, publish, needs=needs, stores=stores)
