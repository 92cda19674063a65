"""Batch predictions through a real worker: an archive or a dataset in, answers in storage out."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from core.domain import jobs, predictions, registry
from core.ops import backup
from core.store import verified
from core.store.tables import Job
from tests.app.apiclient import png, publish_dataset, zipped
from tests.app.trained import store_model
from tests.archives import tar_of
from tests.waiting import wait_for
from tests.worker.conftest import Bench


@pytest.fixture
def model(bench: Bench, tmp_path: Path) -> str:
    """A published LeNet with random weights for ant, bee and cicada."""
    stored = store_model(bench.resources.storage, tmp_path / "model")
    folder = tmp_path / "model"
    bench.resources.storage.put_bytes(
        f"{stored['prefix']}/manifest.json", json.dumps(stored["files"]).encode()
    )
    with bench.resources.database.write() as session:
        registry.publish(
            session,
            name="insects",
            job_id=None,
            digest=stored["digest"],
            prefix=stored["prefix"],
            files=stored["files"],
            card=json.loads((folder / "card.json").read_text()),
        )
    return "insects@1"


def order(bench: Bench, model: str, content: bytes | None = None, **options: Any) -> str:
    """Queue what POST /predictions queues; of an archive where there is one."""
    config: dict[str, Any] = {"model": model, "top_k": 2, "split": None}
    if content is not None:
        key = f"uploads/{secrets.token_hex(4)}"
        bench.resources.storage.put_bytes(key, content)
        config |= {"upload": key, "bytes": len(content), "sha256": None}
    with bench.resources.database.write() as session:
        return jobs.submit(session, kind="predict", config=config, **options).id


def answers(bench: Bench, job: Job) -> list[dict[str, Any]]:
    key = f"{predictions.prefix(job)}/{predictions.ANSWERS}"
    lines = bench.resources.storage.get_bytes(key).splitlines()
    return [json.loads(line) for line in lines]


def test_an_archive_is_answered_file_by_file_and_its_upload_goes(bench: Bench, model: str) -> None:
    bench.worker(module="worker")
    files = {
        "ant/1.png": png(),
        "bee/1.png": png(),
        "bee/broken.png": b"\x89PNG\r\n",
        "x.txt": b"x",
    }
    job = bench.reaches(order(bench, model, zipped(files)), "succeeded", "failed", timeout=120)
    assert job.error is None
    assert job.result is not None
    assert (job.result["images"], job.result["failed"]) == (3, 1)
    assert job.result["answered_by"] == model
    assert job.result["metrics"]["all"]["images"] == 2
    rows = answers(bench, job)
    assert [(row["path"], row["class"], row["status"]) for row in rows] == [
        ("ant/1.png", "ant", "ok"), ("bee/1.png", "bee", "ok"), ("bee/broken.png", "bee", "error"),
    ]  # fmt: skip
    notes = [event.data for event in bench.events(job.id) if event.kind == "note"]
    assert [note["code"] for note in notes] == ["files_skipped"]
    wait_for(lambda: not bench.resources.storage.list("uploads"))


def test_a_cut_archive_is_answered_as_far_as_it_goes_and_told(bench: Bench, model: str) -> None:
    bench.worker(module="worker")
    whole = tar_of({"ant/1.png": png(), "bee/1.png": png((1, 2, 3)), "bee/2.png": png() * 30})
    job = bench.reaches(order(bench, model, whole[: 5 * 512]), "succeeded", "failed", timeout=120)
    assert job.error is None
    notes = [event.data for event in bench.events(job.id) if event.kind == "note"]
    assert [note["code"] for note in notes] == ["archive_damaged"]


def test_a_dataset_is_answered_and_a_killed_job_goes_on(
    bench: Bench, model: str, tmp_path: Path
) -> None:
    dataset = publish_dataset(bench.resources, tmp_path / "pets")
    once = tmp_path / "killed"
    bench.environment["TOPWORK_FAILPOINTS"] = f"predict.after_part=kill?{once}"
    bench.worker(module="worker")
    ordered = order(bench, model, dataset_id=dataset.id, dataset_version=1)
    job = bench.reaches(ordered, "succeeded", "failed", timeout=120)
    assert job.error is None
    assert job.attempt == 2
    assert [row["index"] for row in answers(bench, job)] == list(range(12))
    assert {row["split"] for row in answers(bench, job)} == {"train", "val"}
    assert job.result is not None
    assert job.result["metrics"] == {}  # The model knows no cats and dogs.


def test_a_cancelled_job_keeps_the_answers_so_far(bench: Bench, model: str, tmp_path: Path) -> None:
    dataset = publish_dataset(bench.resources, tmp_path / "pets")
    stopped = tmp_path / "stopped"
    bench.environment["TOPWORK_FAILPOINTS"] = f"predict.after_part=stop?{stopped}"
    bench.worker(module="worker")
    ordered = order(bench, model, dataset_id=dataset.id, dataset_version=1)
    wait_for(stopped.exists, 120)
    bench.cancel(ordered)
    job = bench.reaches(ordered, "cancelled", timeout=60)
    assert [row["index"] for row in answers(bench, job)] == list(range(12))
    (key, sha256) = predictions.location(job, predictions.ANSWERS) or ("", "")
    assert verified.content(bench.resources.storage, key, sha256)
    with bench.resources.database.write() as session:
        size = bench.resources.storage.size(key)
        assert predictions.stored_bytes(session, job.owner) == size
    objects = backup.save(bench.resources, tmp_path / "saved")["objects"]
    assert objects[key]["size"] == size


def test_a_refused_archive_fails_with_its_reason(bench: Bench, model: str) -> None:
    bench.worker(module="worker")
    ordered = order(bench, model, b"this is no archive")
    job = bench.reaches(ordered, "succeeded", "failed", timeout=60)
    assert job.error is not None
    assert job.error["code"] == "archive_unreadable"
    with bench.resources.database.write() as session:
        gone = jobs.delete(session, ordered)
    assert gone == bench.resources.storage.list("uploads")
    bench.resources.storage.delete_all(gone)
