"""A fine-tuning job: a dataset version in, a model version out."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from core import datasets, events, leases, registry
from core.durable import sync
from core.failpoints import hit
from core.resources import Resources
from core.tables import DatasetVersion, Job
from models import catalogue
from models.catalogue import Architecture
from worker.work import Check, Work, download, fetch, upload

FROM_MODEL = "model:"
FLOAT = 4  # Bytes of a parameter.
CLASSES = 1000
BUFFERS = 1.02  # What normalisation keeps beside the parameters.
AUXILIARY = 2.0  # The catalogue leaves them out; GoogLeNet's are as large as all the rest.
TRAINED = 3 * 4 + 2  # Checkpoints of weights, average and two moments; the best weights twice.
SMALL = 32 << 20  # Reports, logs and what else is small.


def stage(resources: Resources, job: Job, folder: Path, check: Check) -> dict[str, Any]:
    """Bring dataset and starting weights to this machine."""
    settings = resources.settings
    if job.last_step and not (folder / "checkpoint").is_dir():
        _say_started_over(resources, job)
    config = dict(job.config)
    name = config.pop("name")
    with resources.database.read() as session:
        version = datasets.version(session, f"{job.dataset_id}@{job.dataset_version}")
    return {
        "job": job.id,
        "name": name,
        "config": config,
        "dataset": str(stage_dataset(resources, version, check)),
        "dataset_ref": {"id": version.dataset_id, "version": version.number},
        "weights_dir": str(settings.weights_dir),
        "offline": settings.offline,
        "download_timeout": settings.download_timeout,
        "cache_dir": str(settings.data_dir / "cache"),
        "cache_bytes": settings.cache_bytes,
        "init_from": _stage_model(resources, config.get("weights", ""), folder / "init", check),
    }


def _say_started_over(resources: Resources, job: Job) -> None:
    """Tell in the job's history that its checkpoint lies on another host; a claim minds none."""
    with resources.database.write() as session:
        leases.held(session, job.id, job.fence)
        claims = [
            e.data["worker"] for e in events.of_kind(session, job.id, "state") if "worker" in e.data
        ]
        here, *before = (owner.rsplit(":", 2)[0] for owner in reversed(claims))
        elsewhere = next((host for host in before if host != here), None)
        if elsewhere is not None:
            words = f"This attempt starts over on {here}: the checkpoint is on {elsewhere}."
            note = {"kind": "note", "code": "started_over", "message": words}
            leases.record(session, job.id, job.fence, [note])


def stage_dataset(resources: Resources, version: DatasetVersion, check: Check) -> Path:
    """Return this machine's copy of a dataset version, fetching what is missing.

    It is named by its digest, complete once it exists, and was compared with every hash before;
    with local storage its shards are hard links. Jobs on one dataset share it.

    Raises:
        IntegrityError: A stored file is not the one that was published.
    """
    folder = resources.settings.data_dir / "cache" / "datasets" / version.digest
    if folder.is_dir():
        folder.touch()  # Its age decides when the copy is dropped.
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{version.digest}.", dir=folder.parent))
    try:
        # The row's own words, as no hash is recorded of the object that repeats them.
        (draft / "dataset.json").write_text(json.dumps(version.summary), encoding="utf-8")
        manifest = f"{version.prefix}/manifest.jsonl"
        fetch(resources, manifest, draft / "manifest.jsonl", version.digest)
        with (draft / "manifest.jsonl").open("rb") as lines:
            shards = {json.loads(line)["shard"] for line in lines}
        for shard in sorted(shards):
            check()
            name = f"shards/{shard}.tar"
            fetch(resources, name, draft / name, shard)
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


def _stage_model(resources: Resources, weights: str, folder: Path, check: Check) -> str | None:
    if not weights.startswith(FROM_MODEL):
        return None
    with resources.database.read() as session:
        version = registry.resolve(session, weights.removeprefix(FROM_MODEL))
    download(resources, version.prefix, version.files, folder, check)
    return str(folder)


def publish(resources: Resources, job: Job, folder: Path, check: Check) -> None:
    """Store the artefact under this attempt's prefix; the commit makes it a model version."""
    prefix = f"models/{job.id}/{job.fence}"
    files = upload(resources.storage, folder / "result", prefix, check)
    card = json.loads((folder / "result" / "card.json").read_text())
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
    """Return the bytes of checkpoints and result that lie side by side at most.

    `models.training.preflight` reckons the same from the network itself, and refuses a job that was
    claimed with less; so this must never be the smaller one. It takes the dearest plan, with an
    average of the weights and two moments, and 1000 classes: more of them, at some 120 KB each, are
    left to the reserve.
    """
    name = job.config.get("architecture")
    if name not in catalogue.names():
        return 0
    facts = catalogue.get(name)
    whole = _weights(facts)
    head = FLOAT * CLASSES * (facts.feature_shape[0] + 1)
    trained = head if job.config.get("strategy") == "head" else whole
    return int(TRAINED * trained + whole) + SMALL


def stores(_resources: Resources, job: Job) -> int:
    """Return the bytes of the artefact."""
    name = job.config.get("architecture")
    return int(_weights(catalogue.get(name))) + SMALL if name in catalogue.names() else 0


def _weights(facts: Architecture) -> float:
    return FLOAT * facts.parameters * (AUXILIARY if facts.auxiliary else BUFFERS)


FINETUNE = Work("models.train", stage, publish, warm=True, needs=needs, stores=stores)
