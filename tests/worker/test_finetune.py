"""What a trainer is given: one verified local copy of each dataset, and starting weights."""

import hashlib
import json

import pytest

from core import datasets, jobs, leases, registry
from core.errors import IntegrityError, ModelNotFound
from core.resources import Resources
from core.tables import DatasetVersion, Job
from worker import finetune

MANIFEST = [{"path": f"{name}.png", "shard": name * 64} for name in "ab"]


@pytest.fixture
def version(resources: Resources) -> DatasetVersion:
    """A published dataset of two shards."""
    storage = resources.storage
    storage.put_bytes("datasets/ds/1/1/dataset.json", b"{}")
    lines = "".join(json.dumps(line) + "\n" for line in MANIFEST)
    storage.put_bytes("datasets/ds/1/1/manifest.jsonl", lines.encode())
    for line in MANIFEST:
        storage.put_bytes(f"shards/{line['shard']}.tar", line["shard"].encode())
    with resources.database.write() as session:
        dataset = datasets.create(session, name="pets", upload=None, metadata={})
        prefix = "datasets/ds/1/1"
        return datasets.publish(
            session, dataset, number=1, digest="d" * 64, prefix=prefix, summary={}
        )


def claimed(resources: Resources, version: DatasetVersion, weights: str = "none") -> Job:
    config = {"name": "pets", "architecture": "lenet", "weights": weights}
    with resources.database.write() as session:
        jobs.submit(
            session,
            kind="finetune",
            config=config,
            dataset_id=version.dataset_id,
            dataset_version=version.number,
        )
    with resources.database.write() as session:
        job = leases.claim(session, "me", 30)
    assert job is not None
    return job


def stage(resources: Resources, job: Job) -> dict[str, object]:
    folder = resources.settings.data_dir / "runs" / job.id / "1"
    folder.mkdir(parents=True)
    return finetune.stage(resources, job, folder, lambda: None)


def test_the_request_names_everything_the_trainer_needs(
    resources: Resources, version: DatasetVersion
) -> None:
    job = claimed(resources, version)
    request = stage(resources, job)
    copy = resources.settings.data_dir / "cache" / "datasets" / version.digest
    assert request == {
        "job": job.id,
        "name": "pets",
        "config": {"architecture": "lenet", "weights": "none"},
        "dataset": str(copy),
        "dataset_ref": {"id": version.dataset_id, "version": 1},
        "weights_dir": str(resources.settings.weights_dir),
        "offline": True,
        "download_timeout": 5.0,
        "cache_dir": str(resources.settings.data_dir / "cache"),
        "cache_bytes": resources.settings.cache_bytes,
        "init_from": None,
    }
    assert {path.name for path in (copy / "shards").iterdir()} == {
        "a" * 64 + ".tar",
        "b" * 64 + ".tar",
    }
    stored = resources.storage.local_path(f"shards/{'a' * 64}.tar")
    assert stored is not None
    assert (copy / "shards" / stored.name).stat().st_ino == stored.stat().st_ino


def test_a_copy_is_made_once_and_never_half(resources: Resources, version: DatasetVersion) -> None:
    missing = f"shards/{'b' * 64}.tar"
    resources.storage.delete(missing)
    copies = resources.settings.data_dir / "cache" / "datasets"
    with pytest.raises(Exception, match=missing):
        finetune.stage_dataset(resources, version, lambda: None)
    assert not list(copies.iterdir())
    resources.storage.put_bytes(missing, b"back")
    copy = finetune.stage_dataset(resources, version, lambda: None)
    resources.storage.delete_prefix("shards")
    assert finetune.stage_dataset(resources, version, lambda: None) == copy
    assert list(copies.iterdir()) == [copy]


def test_starting_weights_are_fetched_and_verified(
    resources: Resources, version: DatasetVersion
) -> None:
    resources.storage.put_bytes("models/job_0/1/weights.safetensors", b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    with resources.database.write() as session:
        registry.publish(
            session,
            name="cats",
            job_id=None,
            digest=digest,
            prefix="models/job_0/1",
            files={"weights.safetensors": {"sha256": digest, "size": 7}},
            card={},
        )
    request = stage(resources, claimed(resources, version, "model:cats@1"))
    folder = resources.settings.data_dir / "runs" / str(request["job"]) / "1" / "init"
    assert request["init_from"] == str(folder)
    assert (folder / "weights.safetensors").read_bytes() == b"weights"
    resources.storage.put_bytes("models/job_0/1/weights.safetensors", b"tampered")
    with pytest.raises(IntegrityError):
        stage(resources, claimed(resources, version, "model:cats"))
    with pytest.raises(ModelNotFound):
        stage(resources, claimed(resources, version, "model:dogs"))
