"""A fine-tuning job: a dataset version in, a model version out."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from core.domain import datasets, events, leases, registry
from core.domain.products import PLACES
from core.store.resources import Resources
from core.store.tables import DatasetVersion, Job
from core.system.atomic_files import sha256, sync
from core.system.failpoints import hit
from models.planning import catalogue, disk_needs
from models.planning.request import DatasetRef, TrainRequest
from topwork.errors import IntegrityError
from topwork.kinds import EventKind, Product
from topwork.types.training import TrainConfig
from worker.kinds.kind import Check, Work, damaged, download, fetch, upload

FROM_MODEL = "model:"
DAMAGED = "damaged"  # The mark of a copy in which the trainer met bytes that are not as recorded.


def stage(resources: Resources, job: Job, folder: Path, check: Check) -> dict[str, Any]:
    """Bring dataset and starting weights to this machine."""
    settings = resources.settings
    if job.last_step and not (folder / "checkpoint").is_dir():
        _say_started_over(resources, job)
    fields = dict(job.config)
    name, config = fields.pop("name"), TrainConfig.model_validate(fields)
    with resources.database.read() as session:
        version = datasets.version(session, f"{job.dataset_id}@{job.dataset_version}")
    request = TrainRequest(
        job=job.id,
        name=name,
        config=config,
        dataset=stage_dataset(resources, version, check),
        dataset_sha256=hashlib.sha256(summary_of(version)).hexdigest(),
        dataset_ref=DatasetRef(id=version.dataset_id, version=version.number),
        weights_dir=settings.weights_dir,
        offline=settings.offline,
        download_timeout=settings.download_timeout,
        cache_dir=settings.data_dir / "cache",
        cache_bytes=settings.cache_bytes,
        **_stage_model(resources, config.weights, folder / "init", check),
    )
    return request.model_dump(mode="json")


def _say_started_over(resources: Resources, job: Job) -> None:
    """Tell in the job's history that its checkpoint lies on another host; a claim minds none."""
    with resources.database.write() as session:
        leases.held(session, job.id, job.fence)
        moves = events.of_kind(session, job.id, EventKind.STATE)
        claims = [move.data["worker"] for move in moves if "worker" in move.data]
        here, *before = (owner.rsplit(":", 2)[0] for owner in reversed(claims))
        elsewhere = next((host for host in before if host != here), None)
        if elsewhere is not None:
            words = f"This attempt starts over on {here}: the checkpoint is on {elsewhere}."
            note = {"kind": EventKind.NOTE, "code": "started_over", "message": words}
            leases.record(session, job.id, job.fence, [note])


def stage_dataset(resources: Resources, version: DatasetVersion, check: Check) -> Path:
    """Return this machine's copy of a dataset version, fetching what is missing.

    It is named by its digest, complete once it exists, and was compared with every hash before.
    Jobs on one dataset share it. Shards in a folder on this machine are read where they lie; the
    copy points to them. The trainer hashes each image again, as it reads it.

    Raises:
        IntegrityError: A stored file is not the one that was published.
    """
    folder = resources.settings.data_dir / "cache" / "datasets" / version.digest
    if folder.is_dir():
        if _is_usable(folder, version):
            folder.touch()  # Its age decides when the copy is dropped.
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{version.digest}.", dir=folder.parent))
    try:
        # The row's own words, as no hash is recorded of the object that repeats them.
        (draft / "dataset.json").write_bytes(summary_of(version))
        manifest = f"{version.prefix}/manifest.jsonl"
        fetch(resources, manifest, draft / "manifest.jsonl", version.digest)
        with (draft / "manifest.jsonl").open("rb") as lines:
            shards = {json.loads(line)["shard"] for line in lines}
        for shard in sorted(shards):
            check()
            _stage_shard(resources, shard, draft / "shards" / f"{shard}.tar")
        for path in [*draft.rglob("*"), draft]:
            sync(path)  # The name vouches for the content, after a power cut as well.
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            # Another job was as quick; its copy is the same.
        sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def summary_of(version: DatasetVersion) -> bytes:
    """Return `dataset.json` as a staged copy has it."""
    return json.dumps(version.summary, sort_keys=True).encode()


def _is_usable(folder: Path, version: DatasetVersion) -> bool:
    """Tell whether a copy is not known to be damaged, and what it points to is there."""
    try:
        whole = (folder / "dataset.json").read_bytes() == summary_of(version)
    except FileNotFoundError:
        return False
    shards = (folder / "shards").iterdir()
    return whole and not (folder / DAMAGED).exists() and all(path.exists() for path in shards)


def _stage_shard(resources: Resources, shard: str, path: Path) -> None:
    key = f"shards/{shard}.tar"
    stored = resources.storage.local_path(key)
    if stored is None:
        fetch(resources, key, path, shard)
        return
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(stored.absolute())
    if not stored.is_file() or sha256(stored) != shard:
        raise damaged(resources, key)


def _stage_model(resources: Resources, weights: str, folder: Path, check: Check) -> dict[str, Any]:
    if not weights.startswith(FROM_MODEL):
        return {}
    with resources.database.read() as session:
        version = registry.resolve(session, weights.removeprefix(FROM_MODEL))
    download(resources, version.prefix, version.files, folder, check)
    return {"init_from": folder, "init_sha256": version.files["card.json"]["sha256"]}


def publish(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    """Store the artefact under this attempt's prefix; the commit makes it a model version."""
    prefix = PLACES[Product.MODEL_VERSION].prefix(job)
    files = upload(resources.storage, folder / "result", prefix, check)
    card = json.loads(resources.storage.get_bytes(f"{prefix}/card.json"))
    if card["files"]["weights.safetensors"] != files["weights.safetensors"]:
        raise IntegrityError("The weights are not as they were written.", hint="Run the job again.")
    check()
    with resources.database.write() as session:
        leases.held(session, job.id, job.fence)
        version = registry.publish(
            session,
            name=job.config["name"],
            job_id=job.id,
            digest=files["weights.safetensors"]["sha256"],
            prefix=prefix,
            files=files,
            card=card,
        )
        result = {
            "model": f"{version.name}@{version.number}",
            "model_version": version.id,
            "digest": version.digest,
            "metrics": card["metrics"],
        }
        leases.succeed(session, job.id, job.fence, result)
        hit("publish.before_commit")
    hit("publish.after_commit")


def needs(_resources: Resources, job: Job) -> int:
    """Return the bytes of checkpoints and result; never fewer than the trainer then asks for."""
    name = job.config.get("architecture")
    if name not in catalogue.names():
        return 0
    return disk_needs.foreseen(catalogue.get(name), job.config.get("strategy"))


def stores(_resources: Resources, job: Job) -> int:
    """Return the bytes of the artefact."""
    name = job.config.get("architecture")
    return disk_needs.of_artefact(catalogue.get(name)) if name in catalogue.names() else 0


WORK = Work("models.train", stage, publish, warm=True, needs=needs, stores=stores)
