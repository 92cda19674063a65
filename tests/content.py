"""Datasets and models published by the worker's own functions, without a child that works."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from core.domain import datasets, jobs, registry
from core.store.resources import Resources
from core.store.tables import Job
from core.system.atomic_files import sha256
from tests.claims import claim_best
from worker.kinds import export, finetune, ingest, predict
from worker.kinds.kind import Check

WEIGHTS = b"weights" * 1000


def claimed(resources: Resources, **order: Any) -> Job:
    """Submit a job and claim it; no other may be queued."""
    with resources.database.write() as session:
        wanted = jobs.submit(session, **order).id
    with resources.database.write() as session:
        job = claim_best(session, "box:1:aa", 60.0)
    assert job is not None
    assert job.id == wanted
    return job


def ingesting(resources: Resources, *contents: bytes) -> tuple[Job, Path]:
    """Return a claimed ingestion whose child has just left its result: one shard a content."""
    resources.storage.put_bytes("uploads/one", b"archive")
    with resources.database.write() as session:
        dataset = datasets.create(session, name="pets", upload="uploads/one", metadata={})
    job = claimed(resources, kind="ingest", config={}, dataset_id=dataset.id)
    folder = resources.settings.data_dir / "runs" / job.id / str(job.fence)
    shards = folder / "result" / "shards"
    shards.mkdir(parents=True)
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    for name, content in zip(names, contents, strict=True):
        (shards / f"{name}.tar").write_bytes(content)
    lines = [{"sha256": name, "path": f"{name}.png", "shard": name} for name in names]
    manifest = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (folder / "result" / "manifest.jsonl").write_bytes(manifest)
    digest = hashlib.sha256(manifest).hexdigest()
    summary = {"digest": digest, "images": len(names), "classes": ["cat", "dog"]}
    (folder / "result" / "dataset.json").write_text(json.dumps(summary))
    return job, folder


def a_dataset(resources: Resources, *contents: bytes) -> str:
    """Publish a dataset of these shards; return its id."""
    job, folder = ingesting(resources, *contents or (b"shard",))
    ingest.publish(resources, job, folder, lambda: None)
    shutil.rmtree(folder.parent)
    return str(job.dataset_id)


def training(resources: Resources, dataset: str, name: str = "pets") -> tuple[Job, Path]:
    """Return a claimed fine-tuning job whose child has just left its result."""
    job = claimed(
        resources, kind="finetune", config={"name": name}, dataset_id=dataset, dataset_version=1
    )
    folder = resources.settings.data_dir / "runs" / job.id / str(job.fence)
    (folder / "result").mkdir(parents=True)
    (folder / "result" / "weights.safetensors").write_bytes(WEIGHTS)
    facts = {"sha256": hashlib.sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)}
    files = {"weights.safetensors": facts}
    card = {"metrics": {"accuracy": 1.0}, "dataset": {"id": dataset}, "files": files}
    (folder / "result" / "card.json").write_text(json.dumps(card))
    return job, folder


def a_model(
    resources: Resources, dataset: str, name: str = "pets", check: Check = lambda: None
) -> Job:
    """Publish a version of a model; return its job."""
    job, folder = training(resources, dataset, name)
    finetune.publish(resources, job, folder, check)
    shutil.rmtree(folder.parent)
    resources.storage.put_bytes(f"logs/{job.id}.txt", b"said")
    return job


def stored(resources: Resources) -> dict[str, str]:
    """Return key -> sha256 of everything in storage."""
    places = ("models", "datasets", "shards", "uploads", "logs")
    keys = [key for place in places for key in resources.storage.list(place)]
    found = {}
    for key in keys:
        path = resources.storage.local_path(key)
        data = resources.storage.get_bytes(key)
        found[key] = sha256(path) if path else hashlib.sha256(data).hexdigest()
    return found


def an_export(resources: Resources, name: str = "pets") -> Job:
    """Publish the first version of a model as a file; return the job."""
    with resources.database.read() as session:
        version = registry.version(session, name, 1).id
    config = {"name": name, "number": 1, "version": version, "format": "onnx"}
    job = claimed(resources, kind="export", config=config)
    folder = _result(resources, job, {"model.onnx": b"onnx", "parity.json": b"{}"})
    export.publish(resources, job, folder, lambda: None)
    shutil.rmtree(folder.parent)
    return job


def answered(resources: Resources, dataset: str) -> Job:
    """Publish the answers of a batch prediction; return its job."""
    config = {"model": "pets@1", "top_k": 1}
    job = claimed(resources, kind="predict", config=config, dataset_id=dataset, dataset_version=1)
    summary = b'{"images": 0, "failed": 0, "metrics": {}}'
    folder = _result(resources, job, {"predictions.jsonl": b"{}\n", "summary.json": summary})
    predict.publish(resources, job, folder, lambda: None)
    shutil.rmtree(folder.parent)
    return job


def _result(resources: Resources, job: Job, files: dict[str, bytes]) -> Path:
    """Leave files as the result of a job's process; return its folder."""
    folder = resources.settings.data_dir / "runs" / job.id / str(job.fence)
    (folder / "result").mkdir(parents=True)
    for name, data in files.items():
        (folder / "result" / name).write_bytes(data)
    return folder
