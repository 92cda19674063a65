"""A real ingest through a real worker: archive in storage to dataset version, or to a reason."""

import hashlib
import io
import json
import secrets
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.domain import datasets, jobs, leases, usage
from core.store.resources import Resources, open_resources
from core.store.tables import Dataset, Job
from core.system import failpoints
from core.system.settings import Settings
from tests.claims import claim_best
from tests.waiting import wait_for
from tests.worker.conftest import Bench
from topwork.errors import QuotaExceeded
from worker.kinds import ingest


@pytest.fixture
def ingesting(bench: Bench) -> Bench:
    bench.worker(module="worker")
    return bench


def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(*classes: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for place, name in enumerate(classes):
            for number in range(4):
                file.writestr(f"{name}/{number}.png", picture(20 * place + number))
    return buffer.getvalue()


def order(bench: Bench, content: bytes, received: str | None = None) -> tuple[str, str, str]:
    """Store an upload and queue what POST /finetune queues for it."""
    key = f"uploads/{secrets.token_hex(4)}"  # Never that of another one, which may go only now.
    bench.resources.storage.put_bytes(key, content)
    with bench.resources.database.write() as session:
        dataset = datasets.create(session, name="pets", upload=key, metadata={})
        ingest = jobs.submit(
            session,
            kind="ingest",
            config={"split": {"val": 0.25, "test": 0.0, "seed": 42}, "sha256": received},
            dataset_id=dataset.id,
        )
        waiting = jobs.submit(
            session, kind="unheard-of", config={}, dataset_id=dataset.id, waits=True
        )
        return dataset.id, ingest.id, waiting.id


def test_no_ingestion_waits_behind_a_training(bench: Bench) -> None:
    bench.worker(slots=1)
    training, next_training = bench.submit({2: "wait"}), bench.submit(steps=1)
    bench.wait("waiting")
    ordered = [order(bench, archive("cat", "dog")) for _ in range(12)]
    for _dataset_id, job_id, _waiting_id in ordered:
        job = bench.reaches(job_id, "succeeded", "failed", timeout=120)
        assert job.state == "succeeded", job.error
    assert bench.job(training).state == "running"
    assert bench.job(next_training).state == "queued"
    bench.go()
    assert bench.reaches(next_training, "succeeded", "failed").attempt == 1


def test_an_archive_becomes_a_version_and_what_waits_goes_on(ingesting: Bench) -> None:
    dataset_id, job_id, waiting_id = order(ingesting, archive("cat", "dog"))
    job = ingesting.reaches(job_id, "succeeded", "failed")
    assert job.result == {"dataset": f"{dataset_id}@1", "images": 8, "classes": 2}
    storage = ingesting.resources.storage
    with ingesting.resources.database.read() as session:
        version = datasets.version(session, dataset_id)
        assert session.get_one(Dataset, dataset_id).upload is None
    assert version.prefix == f"datasets/{dataset_id}/1/1"
    assert version.summary["classes"] == ["cat", "dog"]
    assert [key.rsplit("/")[-1] for key in storage.list(version.prefix)] == [
        "dataset.json",
        "manifest.json",
        "manifest.jsonl",
        "report.jsonl",
    ]
    assert len(storage.list("shards")) == 1
    # The worker forgets the archive after the commit that made it superfluous.
    wait_for(lambda: not storage.list("uploads"))
    waiting = ingesting.reaches(waiting_id, "failed")  # It ran: no worker knows its kind.
    assert waiting.error is not None
    assert "unheard-of" in waiting.error["message"]
    assert waiting.dataset_version == 1


def test_an_exception_that_comes_again_fails_the_ingestion_and_what_waits_for_it(
    bench: Bench,
) -> None:
    bench.environment[failpoints.VARIABLE] = "ingest.after_image=EIO"
    bench.worker(module="worker")
    _, job_id, waiting_id = order(bench, archive("cat", "dog"))
    job = bench.reaches(job_id, "succeeded", "failed")
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("unexpected_exception", 2)
    assert "OSError in core/system/failpoints.py" in job.error["message"]
    assert "operating system refused" in job.error["hint"]
    assert bench.reaches(waiting_id, "failed").error == job.error


def test_a_refused_archive_fails_what_waits_for_it(ingesting: Bench) -> None:
    _, job_id, waiting_id = order(ingesting, archive("cat"))
    job = ingesting.reaches(job_id, "succeeded", "failed")
    assert job.error is not None
    assert job.error["code"] == "too_few_classes"
    assert ingesting.reaches(waiting_id, "failed").error == job.error
    assert ingesting.resources.storage.list("uploads")  # A retry needs it.


def test_an_upload_that_is_not_what_was_received_is_not_read(ingesting: Bench) -> None:
    content = archive("cat", "dog")
    received = hashlib.sha256(content).hexdigest()
    _, whole, _ = order(ingesting, content, received)
    damaged = bytearray(content)
    damaged[content.index(b"cat/3.png") + 5] ^= 1  # Another name in one of the two places.
    _, changed, waiting_id = order(ingesting, bytes(damaged), received)
    assert ingesting.reaches(whole, "succeeded", "failed").error is None
    job = ingesting.reaches(changed, "succeeded", "failed")
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("integrity", 1)
    assert job.error["hint"] == "Send the images again."
    assert ingesting.reaches(waiting_id, "failed").error == job.error


def prepared(resources: Resources, folder: Path, size: int) -> Job:
    """Claim a job whose process has just unpacked an upload into one shard of so many bytes."""
    (folder / "result" / "shards").mkdir(parents=True)
    name = secrets.token_hex(32)
    (folder / "result" / "shards" / f"{name}.tar").write_bytes(bytes(size))
    summary = {"digest": name, "images": 2, "classes": ["a", "b"], "bytes": size}
    (folder / "result" / "dataset.json").write_text(json.dumps(summary))
    with resources.database.write() as session:
        dataset = datasets.create(session, name="pets", upload=f"uploads/{name}", metadata={})
        config = {"split": {}, "bytes": 100}
        dataset.job_id = jobs.submit(
            session, kind="ingest", config=config, dataset_id=dataset.id
        ).id
    with resources.database.write() as session:
        job = claim_best(session)
        assert job is not None
        return job


def test_an_ingestion_that_was_interrupted_has_the_room_that_it_had(
    settings: Settings, tmp_path: Path
) -> None:
    limited = settings.model_copy(update={"max_bytes_per_owner": 5000})
    with open_resources(limited, lambda _celery: None) as resources:
        job = prepared(resources, tmp_path, 3000)
        with resources.database.read() as session:
            upload = datasets.get(session, str(job.dataset_id)).upload
        assert upload is not None
        resources.storage.put_bytes(upload, b"an archive")

        def interrupt() -> None:
            raise InterruptedError

        assert ingest.stage(resources, job, tmp_path, lambda: None)["room"] == 5000
        with pytest.raises(InterruptedError):
            ingest.publish(resources, job, tmp_path, interrupt)
        with resources.database.write() as session:
            leases.release(session, job.id, job.fence, "its worker was stopped")
        with resources.database.write() as session:
            again = claim_best(session)
        assert again is not None
        (tmp_path / "archive").unlink()
        assert ingest.stage(resources, again, tmp_path, lambda: None)["room"] == 5000


def test_what_two_uploads_unpack_to_at_once_counts_as_a_whole(
    settings: Settings, tmp_path: Path
) -> None:
    limited = settings.model_copy(update={"max_bytes_per_owner": 5000})
    with open_resources(limited, lambda _celery: None) as resources:
        first = prepared(resources, tmp_path / "1", 3000)
        second = prepared(resources, tmp_path / "2", 3000)
        refused: list[QuotaExceeded] = []

        def meanwhile() -> None:
            if not refused:
                with pytest.raises(QuotaExceeded) as raised:
                    ingest.publish(resources, second, tmp_path / "2", lambda: None)
                refused.append(raised.value)

        ingest.publish(resources, first, tmp_path / "1", meanwhile)
        assert refused
        prefixes = {key.split("/")[1] for key in resources.storage.list("datasets")}
        assert prefixes == {first.dataset_id}
        assert len(resources.storage.list("shards")) == 1
        with resources.database.write() as session:
            leases.fail(session, second.id, second.fence, refused[0].to_dict())
            # The version, and the upload that could not be used.
            assert usage.of(session, "default").stored == 3000 + 100
