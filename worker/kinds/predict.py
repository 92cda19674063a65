"""A batch prediction: a model and many images in, a file of answers out.

The answers belong to the job and go with it. An attempt that ends before its time stores what it
has: those who cancel a job, or whose job fails, keep the answers so far.
"""

import json
import os
from pathlib import Path
from typing import Any

from core.domain import datasets, leases, predictions, registry
from core.domain.products import PLACES
from core.ops import garbage
from core.store.resources import Resources
from core.store.tables import Job
from core.system import json_child
from core.system.child import reader
from core.system.failpoints import hit
from models.planning.request import PredictRequest
from topwork.kinds import Product, RejectMode
from worker.kinds.finetune import stage_dataset
from worker.kinds.kind import Check, Work, download, fetch_upload, upload
from worker.outcomes import Crashed

LIMITS = ("max_archive_entries", "max_entry_bytes", "max_expanded_bytes")


def stage(resources: Resources, job: Job, folder: Path, check: Check) -> dict[str, Any]:
    """Bring model and images to this machine.

    Raises:
        IntegrityError: A stored file is not the one that was published or received.
        ArchiveUnreadable, ArchiveTooLarge, NameEncodingUnknown, DatasetInvalid: See `unpack`.
    """
    settings, config = resources.settings, job.config
    images, digest = _stage_images(resources, job, folder, check)
    request = PredictRequest(
        images=images,
        images_sha256=digest,
        split=config.get("split"),
        top_k=config["top_k"],
        reject=config.get("reject", RejectMode.AUTO),
        max_image_pixels=settings.max_image_pixels,
        weights_dir=settings.weights_dir,
        offline=settings.offline,
        download_timeout=settings.download_timeout,
        **_stage_model(resources, config, folder / "model", check),
    )
    return request.model_dump(mode="json")


def _stage_images(resources: Resources, job: Job, folder: Path, check: Check) -> tuple[Path, str]:
    """Return the folder of the images and the SHA-256 of its manifest."""
    if job.dataset_id is not None:
        with resources.database.read() as session:
            version = datasets.version(session, f"{job.dataset_id}@{job.dataset_version}")
        return stage_dataset(resources, version, check), version.digest
    archive, images = folder / "archive", folder / "images"
    check()
    fetch_upload(resources, job.config["upload"], job, archive)
    check()
    images.mkdir()
    question = {
        "archive": str(archive),
        "folder": str(images),
        "limits": resources.settings.model_dump(include=set(LIMITS)),
        "name_encoding": job.config.get("name_encoding"),
        "reserve": resources.settings.disk_reserve_bytes,
        "parent": os.getpid(),
    }
    child = reader("-m", "core.ingest.unpack", json.dumps(question))
    try:
        answer = json_child.ask(child)
    except json_child.ChildDied as death:
        raise Crashed(f"the process that unpacks the upload died: {death}") from death
    archive.unlink()
    _say_left_out(resources, job, answer)
    return images, answer["sha256"]


def _say_left_out(resources: Resources, job: Job, answer: dict[str, Any]) -> None:
    """Tell in the job's history which files of the upload are no images, or could not be read."""
    told = {}
    if answer["damage"]:
        told["archive_damaged"] = answer["damage"]
    if answer["skipped"]:
        counts = ", ".join(f"{code} {count}" for code, count in sorted(answer["skipped"].items()))
        told["files_skipped"] = f"Files without an answer: {counts}."
    if not told:
        return
    with resources.database.write() as session:
        for code, words in told.items():
            predictions.say_once(session, job, code, words)


def _stage_model(
    resources: Resources, config: dict[str, Any], folder: Path, check: Check
) -> dict[str, Any]:
    if config.get("architecture"):
        return {"architecture": config["architecture"]}
    with resources.database.read() as session:
        version = registry.resolve(session, config["model"])
    download(resources, version.prefix, version.files, folder, check)
    return {"model": folder, "model_sha256": version.files["card.json"]["sha256"]}


def publish(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    """Store the answers under this attempt's prefix; the commit makes them the job's result."""
    prefix = PLACES[Product.PREDICTIONS].prefix(job)
    files = upload(resources.storage, folder / "result", prefix, check)
    summary = json.loads((folder / "result" / "summary.json").read_text())
    check()
    with resources.database.write() as session:
        leases.held(session, job.id, job.fence)
        result = {"answered_by": job.config["model"], **summary, "files": files}
        leases.succeed(session, job.id, job.fence, result)
        hit("publish.before_commit")
    hit("publish.after_commit")
    if job.config.get("upload"):
        garbage.discard(resources, [job.config["upload"]])


def keep(resources: Resources, job: Job, folder: Path) -> dict[str, Any]:
    """Store the answers that an attempt has, as it ends without all of them."""
    parts = sorted((folder / "checkpoint").glob("*/*.jsonl"))
    if not parts:
        return {}
    whole = folder / predictions.ANSWERS
    with whole.open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
    digest = resources.storage.put_hashed(f"{predictions.prefix(job)}/{whole.name}", whole)
    return {whole.name: {"sha256": digest, "size": whole.stat().st_size}}


def needs(resources: Resources, job: Job) -> int:
    """Return the bytes of the archive's copy and of the images in it."""
    key = job.config.get("upload")
    return 2 * resources.storage.size(key) if key else 0


WORK = Work("models.predict", stage, publish, warm=True, needs=needs, keep=keep)
