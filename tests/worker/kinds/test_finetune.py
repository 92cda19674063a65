"""What a trainer is given: one verified local copy of each dataset, and starting weights."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from core.domain import datasets, events, jobs, leases, registry
from core.store.resources import Resources
from core.store.tables import DatasetVersion, Job
from tests.app.apiclient import publish_dataset
from tests.claims import claim_best
from tests.worker.conftest import Bench
from topwork.errors import IntegrityError, ModelNotFound
from topwork.types.training import TrainConfig
from worker.kinds import finetune

SHARDS = {hashlib.sha256(content).hexdigest(): content for content in (b"a" * 64, b"b" * 64)}
MANIFEST = [{"path": f"{shard[:4]}.png", "shard": shard} for shard in SHARDS]
SUMMARY = {"classes": ["b", "a"]}


@pytest.fixture
def version(resources: Resources) -> DatasetVersion:
    """A published dataset of two shards."""
    storage = resources.storage
    lines = "".join(json.dumps(line) + "\n" for line in MANIFEST).encode()
    storage.put_bytes("datasets/ds/1/1/manifest.jsonl", lines)
    for shard, content in SHARDS.items():
        storage.put_bytes(f"shards/{shard}.tar", content)
    with resources.database.write() as session:
        dataset = datasets.create(session, name="pets", upload=None, metadata={})
        prefix = "datasets/ds/1/1"
        digest = hashlib.sha256(lines).hexdigest()
        return datasets.publish(
            session, dataset, number=1, digest=digest, prefix=prefix, summary=SUMMARY
        )


def claimed(
    resources: Resources, version: DatasetVersion, weights: str = "none", owner: str = "me:1:a"
) -> Job:
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
        job = claim_best(session, owner, 30)
    assert job is not None
    return job


def stage(resources: Resources, job: Job, *, checkpoint: bool = False) -> dict[str, object]:
    folder = resources.settings.data_dir / "runs" / job.id / str(job.fence)
    folder.mkdir(parents=True)
    if checkpoint:
        (folder / "checkpoint").mkdir()
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
        "config": TrainConfig(architecture="lenet", weights="none").model_dump(mode="json"),
        "dataset": str(copy),
        "dataset_sha256": hashlib.sha256((copy / "dataset.json").read_bytes()).hexdigest(),
        "dataset_ref": {"id": version.dataset_id, "version": 1},
        "weights_dir": str(resources.settings.weights_dir),
        "offline": True,
        "download_timeout": 5.0,
        "cache_dir": str(resources.settings.data_dir / "cache"),
        "cache_bytes": resources.settings.cache_bytes,
        "init_from": None,
        "init_sha256": None,
    }
    assert {path.stem for path in (copy / "shards").iterdir()} == set(SHARDS)
    assert json.loads((copy / "dataset.json").read_text()) == SUMMARY
    stored = resources.storage.local_path(f"shards/{min(SHARDS)}.tar")
    assert stored is not None
    assert (copy / "shards" / stored.name).stat().st_ino == stored.stat().st_ino


@pytest.mark.parametrize(
    ("second", "checkpoint", "said"),
    [
        (
            "b.example:2:bb",
            False,
            ["This attempt starts over on b.example: the checkpoint is on a."],
        ),
        ("b.example:2:bb", True, []),  # The hosts share their data folder.
        ("a:2:bb", False, []),  # Killed before its first checkpoint.
    ],
)
def test_a_job_that_another_host_takes_up_says_that_it_starts_over(
    resources: Resources, version: DatasetVersion, second: str, *, checkpoint: bool, said: list[str]
) -> None:
    job = claimed(resources, version, owner="a:1:aa")
    stage(resources, job)  # A first attempt has nothing to start over from.
    with resources.database.write() as session:
        leases.record(session, job.id, 1, [{"kind": "progress", "progress": 0.5, "step": 7}])
        leases.release(session, job.id, 1, "its worker was stopped")
    with resources.database.write() as session:
        again = claim_best(session, second, 30)
    assert again is not None
    stage(resources, again, checkpoint=checkpoint)
    with resources.database.read() as session:
        notes = [event.data for event in events.of_kind(session, job.id, "note")]
    assert [note["message"] for note in notes] == said


def test_a_copy_is_made_once_and_never_half(resources: Resources, version: DatasetVersion) -> None:
    shard, content = max(SHARDS.items())
    missing = f"shards/{shard}.tar"
    resources.storage.delete(missing)
    copies = resources.settings.data_dir / "cache" / "datasets"
    with pytest.raises(Exception, match=missing):
        finetune.stage_dataset(resources, version, lambda: None)
    assert not list(copies.iterdir())
    resources.storage.put_bytes(missing, content)
    copy = finetune.stage_dataset(resources, version, lambda: None)
    resources.storage.delete_prefix(version.prefix)
    assert finetune.stage_dataset(resources, version, lambda: None) == copy
    assert list(copies.iterdir()) == [copy]


def test_a_copy_that_is_marked_as_damaged_or_lacks_a_shard_is_made_again(
    resources: Resources, version: DatasetVersion
) -> None:
    copy = finetune.stage_dataset(resources, version, lambda: None)
    (copy / "damaged").touch()
    assert finetune.stage_dataset(resources, version, lambda: None) == copy
    assert not (copy / "damaged").exists()
    missing = f"shards/{max(SHARDS)}.tar"
    resources.storage.delete(missing)
    with pytest.raises(IntegrityError, match=missing):
        finetune.stage_dataset(resources, version, lambda: None)
    assert not copy.exists()


def test_a_copy_is_on_disk_before_its_name_vouches_for_it(
    resources: Resources, version: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = resources.settings.data_dir / "cache" / "datasets" / version.digest
    before: set[int] = set()
    after: set[int] = set()
    fsync = os.fsync

    def recorded(handle: int) -> None:
        fsync(handle)
        (after if copy.exists() else before).add(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", recorded)
    finetune.stage_dataset(resources, version, lambda: None)
    assert {path.stat().st_ino for path in (copy, *copy.rglob("*"))} <= before
    assert copy.parent.stat().st_ino in after


def damage(resources: Resources, key: str) -> None:
    """Flip one bit of an object."""
    content = bytearray(resources.storage.get_bytes(key))
    content[len(content) // 2] ^= 1
    resources.storage.put_bytes(key, bytes(content))


@pytest.mark.parametrize("which", ["manifest", "shard"])
def test_a_dataset_with_one_flipped_bit_is_never_trained_on(
    resources: Resources, version: DatasetVersion, which: str
) -> None:
    shard = f"shards/{max(SHARDS)}.tar"
    key = shard if which == "shard" else f"{version.prefix}/manifest.jsonl"
    damage(resources, key)
    with pytest.raises(IntegrityError, match=key):
        finetune.stage_dataset(resources, version, lambda: None)
    assert not list((resources.settings.data_dir / "cache" / "datasets").iterdir())


def test_a_job_on_a_damaged_dataset_fails_at_once(bench: Bench, tmp_path: Path) -> None:
    dataset = publish_dataset(bench.resources, tmp_path / "pets")
    with bench.resources.database.write() as session:
        job_id = jobs.submit(
            session,
            kind="finetune",
            config={"name": "pets", "architecture": "lenet", "weights": "none"},
            dataset_id=dataset.id,
            dataset_version=1,
        ).id
    (shard,) = bench.resources.storage.list("shards")
    content = bench.resources.storage.get_bytes(shard)
    damage(bench.resources, shard)
    bench.worker(module="worker")
    job = bench.reaches(job_id, "succeeded", "failed")
    assert job.error is not None
    assert (job.state, job.attempt, job.error["code"]) == ("failed", 1, "integrity")
    assert shard in job.error["message"]
    bench.resources.storage.put_bytes(shard, content)


def test_starting_weights_are_fetched_and_verified(
    resources: Resources, version: DatasetVersion
) -> None:
    resources.storage.put_bytes("models/job_0/1/weights.safetensors", b"weights")
    resources.storage.put_bytes("models/job_0/1/card.json", b"{}")
    digest, card = (hashlib.sha256(data).hexdigest() for data in (b"weights", b"{}"))
    with resources.database.write() as session:
        registry.publish(
            session,
            name="cats",
            job_id=None,
            digest=digest,
            prefix="models/job_0/1",
            files={
                "weights.safetensors": {"sha256": digest, "size": 7},
                "card.json": {"sha256": card, "size": 2},
            },
            card={},
        )
    request = stage(resources, claimed(resources, version, "model:cats@1"))
    folder = resources.settings.data_dir / "runs" / str(request["job"]) / "1" / "init"
    assert (request["init_from"], request["init_sha256"]) == (str(folder), card)
    assert (folder / "weights.safetensors").read_bytes() == b"weights"
    resources.storage.put_bytes("models/job_0/1/weights.safetensors", b"tampered")
    with pytest.raises(IntegrityError):
        stage(resources, claimed(resources, version, "model:cats"))
    with pytest.raises(ModelNotFound):
        stage(resources, claimed(resources, version, "model:dogs"))
